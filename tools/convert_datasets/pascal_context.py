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

from _options import add_options

from mmseg.apis.command import documented_parser, run_command


def main() -> None:
    parser = documented_parser(__doc__)
    add_options(parser, Path('data/VOCdevkit/VOC2010'))
    parser.add_argument('--json', type=Path, help='default ROOT/trainval_merged.json')
    parser.add_argument('--mat', type=Path, help='the .mat files of the original release instead')
    parser.add_argument('--lists', type=Path, help='with --mat: a folder of train.txt and val.txt')
    parser.add_argument('--download', action='store_true', help='photos (1.3 GB), JSON (0.6 GB)')
    parser.add_argument('--mirror', help='an address that holds both files, to be asked first')
    options = vars(parser.parse_args())
    download, mirror = options.pop('download'), options.pop('mirror')
    from mmseg.preparation import pascal_context

    if download and not options['only_verify']:
        options['json'] = pascal_context.fetch(options['root'], options['json'], mirror=mirror)
    pascal_context.prepare(**options)


if __name__ == '__main__':
    run_command(main)
