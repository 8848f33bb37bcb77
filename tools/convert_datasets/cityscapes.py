"""Cityscapes, 19 classes: masks in this project's values, split lists, and a check of it all.

python tools/convert_datasets/cityscapes.py [data/cityscapes] [--verify]
"""

from _options import prepare_release

from mmseg.apis.command import run_command


def main() -> None:
    prepare_release(__doc__, 'cityscapes', 'data/cityscapes')


if __name__ == '__main__':
    run_command(main)
