"""COCO-Stuff 164k, 171 classes: masks in this project's values, split lists, and a check of it all.

python tools/convert_datasets/coco_stuff164k.py [data/coco_stuff164k] [--verify]
"""

from _options import prepare_release

from mmseg.apis.command import run_command


def main() -> None:
    prepare_release(__doc__, 'coco_stuff164k', 'data/coco_stuff164k')


if __name__ == '__main__':
    run_command(main)
