"""COCO-Object, 80 things and background: masks of COCO-Stuff 164k's release, lists, a check.

python tools/convert_datasets/coco_object.py [data/coco_stuff164k] [--verify]
"""

import _options  # first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.preparation.releases import prepare


def main():
    args = _options.parser_of(__doc__, 'data/coco_stuff164k').parse_args()
    prepare('coco_object', args.root, **_options.settings(args))


if __name__ == '__main__':
    run_command(main)
