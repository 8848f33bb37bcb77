"""COCO-Object, 80 things and background: masks of COCO-Stuff 164k's release, lists, a check.

python tools/convert_datasets/coco_object.py [data/coco_stuff164k] [--verify]
"""

from _options import prepare_release

from mmseg.apis.command import run_command


def main() -> None:
    prepare_release(__doc__, 'coco_object', 'data/coco_stuff164k')


if __name__ == '__main__':
    run_command(main)
