"""Cityscapes, 19 classes: masks in this project's values, split lists, and a check of it all.

python tools/convert_datasets/cityscapes.py [data/cityscapes] [--verify]
"""

import _options  # first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.preparation.releases import prepare


def main():
    args = _options.parser_of(__doc__, 'data/cityscapes').parse_args()
    prepare('cityscapes', args.root, **_options.settings(args))


if __name__ == '__main__':
    run_command(main)
