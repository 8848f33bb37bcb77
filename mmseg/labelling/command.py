"""The command line of `tools/pseudo_label.py`: labels of any number of photos, resumable."""

import argparse
import os
from pathlib import Path

from mmseg.apis.command import add_config_arguments
from mmseg.apis.inference import init_model, words_of
from mmseg.apis.test import require_data
from mmseg.datasets.reading import read_photo
from mmseg.engine import device_of, load_config
from mmseg.errors import UserError
from mmseg.utils import Progress, output_dir, sweep_parts

from .find import find_units, photo_units
from .labeller import Labeller
from .record import keep_record, record_of, source_of, text_of
from .share import rank_of, share_of, wait_for_others
from .units import label_unit


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description='Label PNGs of a folder, or of tar shards; what is there already stays.'
    )
    add_config_arguments(parser)
    parser.add_argument(
        'source', nargs='?', help="a folder, a tar, 'shards/*.tar', or a .txt that lists tars"
    )
    parser.add_argument('--photos-of', metavar='CONFIG', help="or a config's photos to train on")
    parser.add_argument('--set', choices=['train', 'val'], default='train', help='which of them')
    parser.add_argument('--out', required=True, help='where label PNGs, or tars of them, go')
    parser.add_argument('--checkpoint', help="a student's, or other weights of the CLIP")
    parser.add_argument('--classes', help="other words than the config's, separated by commas")
    parser.add_argument('--threshold', type=float, default=0.0, help='less probable: no class')
    parser.add_argument(
        '--scales',
        type=float,
        nargs='+',
        default=[1.0],
        help='mean over these multiples of the size',
    )
    parser.add_argument('--flip', action='store_true', help='and over mirror images')
    parser.add_argument('--confidence', action='store_true', help='write x.conf.png beside x.png')
    parser.add_argument('--batch', type=int, default=8, help='photos of one size at a time')
    parser.add_argument(
        '--part', default='', help='2/8: the second of eight, with or without a launcher'
    )
    parser.add_argument('--engine', choices=['local', 'ray'], default='local')
    parser.add_argument('--workers', type=int, default=2, help='of the Ray engine')
    parser.add_argument('--device', help='cpu, or an accelerator; default the best there is')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.batch < 1 or args.workers < 1:
        raise UserError('--batch and --workers are numbers from 1 on')
    if not 0 <= args.threshold <= 1:
        raise UserError(f'--threshold is a probability in 0..1, not {args.threshold}')
    if min(args.scales) <= 0:
        raise UserError(f'--scales are multiples of the size above 0, not {min(args.scales)}')
    if (args.source is None) == (args.photos_of is None):
        raise UserError('name the photos: a folder or tars, or --photos-of CONFIG')
    return args


def main(argv=None):
    args = parse_arguments(argv)
    share, shares = share_of(args.part, args.launcher)
    rank, _ = rank_of(args.launcher)
    out = output_dir(args.out)
    root, units = units_of(args, out)
    labeller = make_labeller(args, rank)
    record = record_of(labeller, unusual(args)) | dict(source=source_of(root, units[0].pairs[0][0]))
    keep_record(out, record, text_of(labeller))
    own = units[share::shares]
    if args.engine == 'ray':
        from .ray_engine import run_units

        del labeller
        results = run_units(own, vars(args) | dict(out=str(out.absolute())), args.workers)
    else:
        results = (label_unit(unit, labeller) for unit in own)
    wrong = report(results, units, own, out, quiet=rank > 0)
    if args.launcher == 'pytorch':
        wait_for_others(failed=bool(wrong))
    if wrong:
        raise UserError(wrong)


def units_of(args, out):
    """Command line -> the folder of the photos that it names, units of them"""
    if args.photos_of is not None:
        data = dataset_of(args)
        paths = [data.get_data_info(i)['img_path'] for i in range(len(data))]
        pairs = [(path, data.label_path(path, out.absolute())) for path in paths]
        return data.photo_root, photo_units(pairs)
    source = Path(args.source)
    if out.resolve() == source.resolve():
        raise UserError(f'--out {out} is where the photos are; choose another folder')
    units = find_units(source.absolute(), out.absolute())
    return source if source.is_dir() else Path(units[0].pairs[0][0]).parent, units


def dataset_of(args):
    """The data set of `--photos-of`, which needs no labels yet."""
    loader = load_config(args.photos_of).get(f'{args.set}_dataloader')
    if not loader:
        raise UserError(f'{args.photos_of} has no {args.set}_dataloader')
    loader.dataset.pseudo_labels = None
    return require_data(loader)


def make_labeller(args, rank=0):
    """Command line -> Labeller; processes of one machine share out its accelerators."""
    device = device_of(args.device)
    if device != 'cpu' and args.launcher != 'none':
        local = os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', rank))
        device = f'{device.partition(":")[0]}:{local}'
    config = load_config(args.config, args.cfg_options)
    model = init_model(config, args.checkpoint, device)
    return Labeller(
        model,
        words_of(model, args.classes),
        threshold=args.threshold,
        batch=args.batch,
        scales=args.scales,
        flip=args.flip,
        confidence=args.confidence,
        read=dataset_of(args).read if args.photos_of else read_photo,
    )


def unusual(args):
    """-> the options that decide labels, where they are not the usual ones"""
    usual = dict(scales=[1.0], flip=False, confidence=False)
    return {key: getattr(args, key) for key, value in usual.items() if getattr(args, key) != value}


def report(results, units, own, out, *, quiet):
    """Draw the results, with a bar, tidy up, print the count -> what was wrong, or ''"""
    photos, errors, shards = 0, [], []
    with Progress(len(own), 'label', unit='unit', quiet=quiet) as progress:
        for result in results:
            photos += result['photos']
            errors += result['errors']
            shards += result['shards']
            progress.note = f'{photos} photos'
            progress.update()
    for folder in {out, *(Path(label).parent for unit in own for _, label in unit.pairs)}:
        if folder.is_dir():
            sweep_parts(folder)
    done = sum(all(Path(label).exists() for _, label in unit.pairs) for unit in units)
    print(f'{photos} photos labelled; {done} of {len(units)} units are whole in {out}')
    return complaint(errors, shards)


def complaint(errors, shards):
    """Texts of bad photos, paths of damaged shards -> the line that ends the run, '' for none"""
    bad = [f'{len(errors)} photos'] if errors else []
    if shards:
        more = ', ...' if shards[3:] else ''
        bad.append(f'{len(shards)} shards ({", ".join(shards[:3])}{more})')
    return f'{" and ".join(bad)} could not be read; see above' if bad else ''
