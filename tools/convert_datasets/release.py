"""Masks in this project's values, split lists and a check of it all, for an unpacked release.

python tools/convert_datasets/release.py ade20k [data/ade/ADEChallengeData2016] [--verify]
python tools/convert_datasets/release.py cityscapes [data/cityscapes]
python tools/convert_datasets/release.py coco_stuff164k [data/coco_stuff164k]
python tools/convert_datasets/release.py coco_object [data/coco_stuff164k]
"""

from _options import add_options

from mmseg.apis.command import documented_parser, run_command

NAMES = ('ade20k', 'cityscapes', 'coco_object', 'coco_stuff164k')


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('name', choices=NAMES)
    add_options(parser)
    options = vars(parser.parse_args())
    from mmseg.preparation.releases import prepare

    prepare(**options)


if __name__ == '__main__':
    run_command(main)
