"""Your own annotations in COCO's JSON (polygons or run lengths) -> mask PNGs and a list of classes.

python tools/convert_datasets/coco_json.py ANNOTATIONS.json PHOTOS --out MASKS
"""

from pathlib import Path

from mmseg.apis.command import documented_parser, run_command


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('json', type=Path, help='images, annotations and categories')
    parser.add_argument('photos', type=Path, help='the folder that its file names are below')
    parser.add_argument('--out', type=Path, required=True, help='a folder for the masks')
    args = parser.parse_args()
    from mmseg.preparation.coco_json import convert

    convert(args.json, args.photos, args.out)


if __name__ == '__main__':
    run_command(main)
