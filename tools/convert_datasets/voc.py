"""PASCAL VOC 2012, 20 classes and background: its own masks, the augmented ones, a check.

python tools/convert_datasets/voc.py [data/VOCdevkit/VOC2012] [--download]
python tools/convert_datasets/voc.py --aug FOLDER       # SBD's dataset/cls with .mat files, or PNGs

With --aug: SegmentationClassAug/*.png and ImageSets/Segmentation/trainaug.txt, SBD's masks and
VOC's own of train, without the photos of val.
"""

from pathlib import Path

import _options  # first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.errors import UserError
from mmseg.preparation.archives import fetch_release, unpack
from mmseg.preparation.masks import (
    Layout,
    in_parallel,
    mat_labels,
    read_labels,
    read_list,
    verify,
    write_list,
    write_mask,
)
from mmseg.vocabularies import load_vocabulary

ROOT, INSIDE = 'data/VOCdevkit/VOC2012', 'VOCdevkit/VOC2012/'
PHOTOS = ['http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar']
EXPECTED = dict(train=(1464,), val=(1449,), trainaug=(10582,))
VALUES = load_vocabulary('voc_21')


def main():
    parser = _options.parser_of(__doc__, ROOT)
    parser.add_argument('--aug', type=Path, help="SBD's folder of masks")
    parser.add_argument('--download', action='store_true', help='photos and masks (2 GB)')
    parser.add_argument('--mirror', help='an address that holds the archive, to be asked first')
    args = parser.parse_args()
    if args.download and not args.verify:
        if args.root.parts[-2:] != ('VOCdevkit', 'VOC2012'):
            raise UserError(f'--download makes .../VOCdevkit/VOC2012; {args.root} ends otherwise')
        above = args.root.parent.parent
        unpack(fetch_release(PHOTOS, above, mirror=args.mirror), above, [INSIDE])
    own, augmented = (layout_of(args.root, f'SegmentationClass{kind}') for kind in ('', 'Aug'))
    if args.aug and not args.verify:
        augment(args, own, augmented)
    check(own, ['train', 'val'], args)
    if augmented.list('trainaug').is_file():
        check(augmented, ['trainaug'], args)


def layout_of(root, folder):
    lists = 'ImageSets/Segmentation'
    return Layout(root, 'JPEGImages', folder, lists, '.jpg', '.png', VALUES.labels)


def check(layout, splits, args):
    expected = None if args.partial else EXPECTED
    verify(layout, splits, expected=expected, processes=args.processes)


def augment(args, own, augmented):
    """SBD's masks as PNGs beside VOC's own, which count more, and the list of them all."""
    files = {p.stem: p for suffix in ('mat', 'png') for p in args.aug.rglob(f'*.{suffix}')}
    if not files:
        raise UserError(f"{args.aug} holds no .mat and no .png; name SBD's dataset/cls")
    files |= {name: own.mask(name) for name in read_list(own.list('train'))}
    names = sorted(set(files) - set(read_list(own.list('val'))))
    jobs = [
        (files[name], augmented.mask(name))
        for name in names
        if args.overwrite or not augmented.mask(name).is_file()
    ]
    done = in_parallel(convert_one, jobs, len(jobs), 'masks', processes=args.processes, unit='mask')
    for _ in done:
        pass
    write_list(augmented.list('trainaug'), names)


def convert_one(job):
    source, target = job
    write_mask(
        target, read_sbd(source) if source.suffix == '.mat' else read_labels(source), VALUES.palette
    )


def read_sbd(path):
    """A .mat of SBD's `cls` -> (H, W) uint8"""
    labels = mat_labels(path, lambda content: content['GTcls'][0, 0]['Segmentation'], 'SBD')
    return labels.clip(max=255).astype('uint8')


if __name__ == '__main__':
    run_command(main)
