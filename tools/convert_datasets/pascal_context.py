"""Pascal Context -> masks of 60 values, split lists, and a check of all of it.

python tools/convert_datasets/pascal_context.py [data/VOCdevkit/VOC2010] --download
python tools/convert_datasets/pascal_context.py --json trainval_merged.json
python tools/convert_datasets/pascal_context.py --mat FOLDER_OF_MAT_FILES
python tools/convert_datasets/pascal_context.py --verify

Writes SegmentationClassContext/*.png (0 anything else, 1 to 59 the classes alphabetically) and
ImageSets/SegmentationContext/{train,val}.txt below the root, which has VOC 2010's JPEGImages.
A stopped run goes on where it stopped. Ends with exit code 1 and the names if anything lacks.
"""

from pathlib import Path

import _options  # first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.errors import UserError
from mmseg.preparation import pascal_context
from mmseg.preparation.archives import fetch_release, unpack
from mmseg.preparation.masks import (
    Layout,
    in_parallel,
    read_list,
    start_masks,
    verify,
    write_list,
    write_mask,
)
from mmseg.vocabularies import load_vocabulary

ROOT, INSIDE = 'data/VOCdevkit/VOC2010', 'VOCdevkit/VOC2010/'
PHOTOS = ['http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar']
JSON = ['https://codalabuser.blob.core.windows.net/public/trainval_merged.json']
SPLITS = ('train', 'val')
EXPECTED = dict(train=(4998, 4996), val=(5105, 5104))  # the JSON's own, and the published lists'
VALUES = load_vocabulary('pascal_context_60')


def main():
    parser = _options.parser_of(__doc__, ROOT)
    parser.add_argument('--json', type=Path, help='default ROOT/trainval_merged.json')
    parser.add_argument('--mat', type=Path, help='the .mat files of the original release instead')
    parser.add_argument('--lists', type=Path, help='with --mat: a folder of train.txt and val.txt')
    parser.add_argument('--download', action='store_true', help='photos (1.3 GB), JSON (0.6 GB)')
    parser.add_argument('--mirror', help='an address that holds both files, to be asked first')
    args = parser.parse_args()
    layout = Layout(
        args.root,
        'JPEGImages',
        'SegmentationClassContext',
        'ImageSets/SegmentationContext',
        '.jpg',
        '.png',
        VALUES.labels,
    )
    shortfalls = []
    if not args.verify:
        if args.download:
            fetch(args)
        if not (args.root / 'JPEGImages').is_dir():
            raise UserError(
                f"{args.root} has no JPEGImages; name VOC 2010's folder, or use --download"
            )
        convert = from_mat if args.mat else from_json
        shortfalls = convert(args, layout)
    expected = None if args.partial else EXPECTED
    verify(layout, SPLITS, expected=expected, processes=args.processes, shortfalls=shortfalls)


def fetch(args):
    """Photos and JSON, below the root."""
    if args.root.parts[-2:] != ('VOCdevkit', 'VOC2010'):
        raise UserError(f'--download makes .../VOCdevkit/VOC2010; {args.root} ends otherwise')
    args.json = args.json or fetch_release(JSON, args.root, mirror=args.mirror)
    archive = fetch_release(PHOTOS, args.root.parent.parent, mirror=args.mirror)
    wanted = [f'{INSIDE}JPEGImages/', f'{INSIDE}ImageSets/']
    unpack(archive, args.root.parent.parent, wanted)


def from_json(args, layout):
    """-> what lacks"""
    path = args.json or args.root / 'trainval_merged.json'
    print(f'reading {path} ...', flush=True)
    images, segments = pascal_context.read_annotations(path)
    start_masks(layout, path, overwrite=args.overwrite)
    splits, shortfalls = {split: [] for split in SPLITS}, []
    for key, photo in images.items():
        if photo.phase in splits and key in segments:
            splits[photo.phase].append(photo.name)
        elif photo.phase in splits:
            shortfalls.append(f'{photo.name} ({photo.phase}) has no annotation; it is in no list')
    jobs = [
        (photo, segments[key], layout.mask(photo.name))
        for key, photo in images.items()
        if photo.phase in splits and key in segments and not layout.mask(photo.name).is_file()
    ]
    make(paint_one, jobs, args.processes)
    for split, names in splits.items():
        write_list(layout.list(split), sorted(names))
    return shortfalls


def paint_one(job):
    photo, segments, target = job
    write_mask(target, pascal_context.paint(photo, segments), VALUES.palette)


def from_mat(args, layout):
    """-> what lacks; the lists are those given, or VOC 2010's own as far as there are files"""
    files = {path.stem: path for path in sorted(args.mat.rglob('*.mat'))}
    if not files:
        raise UserError(f'{args.mat} holds no .mat file')
    start_masks(layout, args.mat, overwrite=args.overwrite)
    lists = args.lists or args.root / 'ImageSets' / 'Main'
    splits = {split: read_list(lists / f'{split}.txt') for split in SPLITS}
    shortfalls = []
    for split, names in splits.items():
        missing = [name for name in names if name not in files]
        if args.lists:
            shortfalls += [
                f'{name} ({split}) has no .mat file; it is in no list' for name in missing
            ]
        splits[split] = [name for name in names if name in files]
    named = {name for names in splits.values() for name in names}
    jobs = [
        (files[name], layout.mask(name))
        for name in sorted(named)
        if not layout.mask(name).is_file()
    ]
    make(convert_one, jobs, args.processes)
    for split, names in splits.items():
        write_list(layout.list(split), sorted(names))
    return shortfalls


def convert_one(job):
    source, target = job
    write_mask(target, pascal_context.read_mat(source), VALUES.palette)


def make(function, jobs, processes):
    for _ in in_parallel(function, jobs, len(jobs), 'masks', processes=processes, unit='mask'):
        pass


if __name__ == '__main__':
    run_command(main)
