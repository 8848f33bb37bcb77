"""Pascal Context -> masks of 60 values, split lists, and a check of all of it.

python tools/convert_datasets/pascal_context.py [data/VOCdevkit/VOC2010] --download
python tools/convert_datasets/pascal_context.py --json trainval_merged.json
python tools/convert_datasets/pascal_context.py --mat FOLDER_OF_MAT_FILES
python tools/convert_datasets/pascal_context.py --verify

Writes SegmentationClassContext/*.png (0 anything else, 1 to 59 the classes alphabetically) and
ImageSets/SegmentationContext/{train,val}.txt below the root, which has VOC 2010's JPEGImages.
A stopped run continues where it stopped. Ends with exit code 1 and the names if anything lacks.
"""

from pathlib import Path

from _options import add_options, settings

from mmseg.apis.command import documented_parser, run_command


def main() -> None:
    parser = documented_parser(__doc__)
    add_options(parser, Path('data/VOCdevkit/VOC2010'))
    parser.add_argument('--json', type=Path, help='default ROOT/trainval_merged.json')
    parser.add_argument('--mat', type=Path, help='the .mat files of the original release instead')
    parser.add_argument('--lists', type=Path, help='with --mat: a folder of train.txt and val.txt')
    parser.add_argument('--download', action='store_true', help='photos (1.3 GB), JSON (0.6 GB)')
    parser.add_argument('--mirror', help='an address that holds both files, to be asked first')
    args = parser.parse_args()
    from mmseg.preparation import context_release

    if args.download and not args.verify:
        args.json = context_release.fetch(args.root, args.json, mirror=args.mirror)
    context_release.prepare(
        args.root, json=args.json, mat=args.mat, lists=args.lists, **settings(args)
    )


if __name__ == '__main__':
    run_command(main)
