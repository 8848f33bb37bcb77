"""PASCAL VOC 2012, 20 classes and background: its own masks, the augmented ones, a check.

python tools/convert_datasets/voc.py [data/VOCdevkit/VOC2012] [--download]
python tools/convert_datasets/voc.py --aug FOLDER       # SBD's dataset/cls with .mat files, or PNGs

With --aug: SegmentationClassAug/*.png and ImageSets/Segmentation/trainaug.txt, SBD's masks and
VOC's own of train, without the photos of val.
"""

from pathlib import Path

from _options import add_options

from mmseg.apis.command import documented_parser, run_command


def main() -> None:
    parser = documented_parser(__doc__)
    add_options(parser, Path('data/VOCdevkit/VOC2012'))
    parser.add_argument('--aug', metavar='FOLDER', dest='sbd', type=Path, help='masks of SBD')
    parser.add_argument('--download', action='store_true', help='photos and masks (2 GB)')
    parser.add_argument('--mirror', help='an address that holds the archive, to be asked first')
    options = vars(parser.parse_args())
    download, mirror = options.pop('download'), options.pop('mirror')
    from mmseg.preparation import voc

    if download and not options['only_verify']:
        voc.fetch(options['root'], mirror=mirror)
    voc.prepare(**options)


if __name__ == '__main__':
    run_command(main)
