"""The command lines of `tools/pseudo_label.py`, labels of any number of photos, and `distill`."""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseg.apis.command import (
    add_config_arguments,
    add_device,
    add_engine,
    add_format,
    add_launcher,
)
from mmseg.errors import UserError
from mmseg.utils import Progress, output_dir, sweep_parts

from .share import rank_of, share_of, wait_for_others

if TYPE_CHECKING:
    from .labeller import Labeller
    from .units import Unit

DEFAULTS: dict[str, Any] = dict(scales=[1.0], flip=False, confidence=False)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UserError: a number out of its range, or not exactly one source of photos.
    """
    parser = argparse.ArgumentParser(
        description='Label PNGs of a folder, or of tar shards; existing labels stay.'
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
        '--scales', type=float, nargs='+', default=[1.0], help='average these multiples of the size'
    )
    parser.add_argument('--flip', action='store_true', help='and mirror images')
    parser.add_argument('--confidence', action='store_true', help='write x.conf.png beside x.png')
    add_format(parser)
    parser.add_argument('--batch', type=int, default=8, help='photos of one size at a time')
    parser.add_argument(
        '--part', default='', help='2/8: the second of eight, with or without a launcher'
    )
    parser.add_argument('--scheduler', choices=['local', 'ray'], default='local')
    parser.add_argument('--workers', type=int, default=2, help='of Ray')
    add_device(parser)
    add_engine(parser)
    add_launcher(parser)
    args = parser.parse_args(argv)
    if args.batch < 1 or args.workers < 1:
        raise UserError('--batch and --workers are numbers from 1 on')
    if not 0 <= args.threshold <= 1:
        raise UserError(f'--threshold is a probability in 0..1, not {args.threshold}')
    if min(args.scales) <= 0:
        raise UserError(f'--scales are multiples of the size above 0, not {min(args.scales)}')
    if (args.source is None) == (args.photos_of is None):
        raise UserError('name the photos: a folder or tars, or --photos-of CONFIG')
    if args.format != 'png' and (args.part or args.launcher != 'none'):
        raise UserError(
            f'--format {args.format} is written by one process: run this command once more without '
            '--part and --launcher when all labels are there'
        )
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line.

    Raises:
        UserError: at the end, if photos or shards could not be read; other mistakes at once.
    """
    args = parse_arguments(argv)

    from .record import keep_record, record_of, source_of, text_of
    from .units import label_unit, missing_first, photos_at_hand

    share, shares = share_of(args.part, args.launcher)
    rank, _ = rank_of(args.launcher)
    out = output_dir(args.out)
    root, units = _find_units(args, out)
    args.photos = photos_at_hand(units, _reader(args))
    labeller = make_labeller(args, rank)
    write = _format_writer(args, units, labeller, root)
    changed = {k: getattr(args, k) for k, v in DEFAULTS.items() if getattr(args, k) != v}
    if labeller.model.engine.precision != 'fp32':
        changed['precision'] = labeller.model.engine.precision
    record = record_of(labeller, changed) | dict(source=source_of(root, units[0].pairs[0][0]))
    keep_record(out, record, text_of(labeller))
    shared = missing_first(units[share::shares])
    results: Iterable[dict[str, Any]]
    if args.scheduler == 'ray':
        from .ray_engine import run_units

        del labeller
        results = run_units(shared, vars(args) | dict(out=str(out.absolute())), args.workers)
    else:
        results = (label_unit(unit, labeller) for unit in shared)
    complaint = report(results, units, shared, out, quiet=rank > 0)
    write()
    if args.launcher == 'pytorch':
        wait_for_others(failed=bool(complaint))
    if complaint:
        raise UserError(complaint)


def _find_units(args: argparse.Namespace, out: Path) -> tuple[str | Path, Sequence['Unit']]:
    """Return the folder of the photos that the command line names, and units of them."""
    from .units import find_units, photo_units

    if args.photos_of is not None:
        data = _dataset_of(args)
        paths = [data.get_data_info(i)['img_path'] for i in range(len(data))]
        pairs = [(path, data.label_path(path, out.absolute())) for path in paths]
        return data.photo_root, photo_units(pairs)
    source = Path(args.source)
    if out.resolve() == source.resolve():
        raise UserError(f'--out {out} is where the photos are; choose another folder')
    units = find_units(source.absolute(), out.absolute())
    return source if source.is_dir() else Path(units[0].pairs[0][0]).parent, units


def _format_writer(
    args: argparse.Namespace, units: Sequence['Unit'], labeller: 'Labeller', root: str | Path
) -> Callable[[], None]:
    """Check --format; return a function that writes the labels that are there in that format."""
    if args.format == 'png':
        return lambda: None
    from mmseg.preparation.write_formats import check_format, write_labels

    pairs = [pair for unit in units for pair in unit.pairs]
    if any(label.endswith('.tar') for _, label in pairs):
        raise UserError(f'--format {args.format} is for folders of photos, not for tars')
    vocabulary, out = labeller.words.label_vocabulary(), Path(args.out, args.format)
    check_format(args.format, [photo for photo, _ in pairs], vocabulary, out, root=root)

    def write() -> None:
        labelled = [(photo, label) for photo, label in pairs if Path(label).is_file()]
        if labelled:
            write_labels(args.format, labelled, vocabulary, out, root=root)

    return write


def _dataset_of(args: argparse.Namespace) -> Any:
    """Build the data set of `--photos-of`, which needs no labels yet."""
    from mmseg.apis.test import require_data
    from mmseg.engine import load_config

    loader = load_config(args.photos_of).get(f'{args.set}_dataloader')
    if not loader:
        raise UserError(f'{args.photos_of} has no {args.set}_dataloader')
    loader.dataset.pseudo_labels = None
    return require_data(loader)


def _reader(args: argparse.Namespace) -> Callable[..., Any]:
    """Return what reads a path of the photos as a PIL image."""
    from mmseg.datasets.reading import read_photo

    return _dataset_of(args).read if args.photos_of else read_photo


def make_labeller(args: argparse.Namespace, rank: int = 0) -> 'Labeller':
    """Load the model; processes of one machine share out its accelerators."""
    from mmseg.apis.inference import init_model
    from mmseg.apis.words import words_of
    from mmseg.engine import device_of, load_config

    from .labeller import Labeller

    device = device_of(args.device)
    if device != 'cpu' and args.launcher != 'none':
        local = os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', rank))
        device = f'{device.partition(":")[0]}:{local}'
    config = load_config(args.config, args.cfg_options)
    run: dict[str, Any] = dict(engine=args.engine, precision=args.precision, photos=args.photos)
    model = init_model(config, args.checkpoint, device, **run)
    return Labeller(
        model,
        words_of(model, args.classes),
        threshold=args.threshold,
        batch=args.batch,
        scales=args.scales,
        flip=args.flip,
        confidence=args.confidence,
        read=_reader(args),
    )


def report(
    results: Iterable[dict[str, Any]],
    units: Sequence['Unit'],
    shared: Sequence['Unit'],
    out: Path,
    *,
    quiet: bool,
) -> str:
    """Draw the results with a progress bar, tidy up, print counts.

    Args:
        results: of `label_unit`.
        units: of all processes.
        shared: of this process.
        out: the folder of the labels.
        quiet: draw no bar.

    Returns:
        One line on the photos and shards that could not be read, or ''.
    """
    photos, errors, shards = 0, [], []
    with Progress(len(shared), 'label', unit='unit', quiet=quiet) as progress:
        for result in results:
            photos += result['photos']
            errors += result['errors']
            shards += result['shards']
            progress.note = f'{photos} photos'
            progress.update()
    folders, done = {str(out)}, 0
    for unit in units:
        labels = [label for _, label in unit.pairs]
        folders.update(map(os.path.dirname, labels))
        done += all(map(os.path.exists, labels))
    for folder in filter(os.path.isdir, folders):
        sweep_parts(Path(folder))
    print(f'{photos} photos labelled; {done} of {len(units)} units are whole in {out}')
    unread = [f'{len(errors)} photos'] if errors else []
    if shards:
        more = ', ...' if shards[3:] else ''
        unread.append(f'{len(shards)} shards ({", ".join(shards[:3])}{more})')
    return f'{" and ".join(unread)} could not be read; see above' if unread else ''


def run_distill(argv: Sequence[str] | None = None) -> None:
    """Run `maskclip distill`."""
    parser = argparse.ArgumentParser(
        prog='distill', description='From photos and words to labels, a student and a report.'
    )
    parser.add_argument('photos', help='a folder of photos')
    parser.add_argument('--classes', required=True, help="'road, grass|lawn', or auto")
    parser.add_argument('--out', required=True, help='where labels, student and report go')
    parser.add_argument('--teacher', help="a MaskCLIP's config; default CLIP's ViT-B/16")
    parser.add_argument('--student', help="a student's config; default one that suits the device")
    parser.add_argument(
        '--minutes', type=float, default=20.0, help='the most that the training may take'
    )
    parser.add_argument(
        '--iterations',
        type=int,
        help='of the training; default 8 passes over the photos, at least 300',
    )
    parser.add_argument('--held-out', type=float, default=0.1, help='share of the photos')
    parser.add_argument('--processes', type=int, default=1, help='that write labels')
    parser.add_argument('--val-masks', help='labels of some photos: the report tells IoU on them')
    parser.add_argument('--review', type=int, default=0, help='least sure photos, to correct')
    add_format(parser)
    parser.add_argument('--seed', type=int, default=0)
    add_device(parser)
    add_engine(parser)
    options = vars(parser.parse_args(argv))
    from .distill import distill

    options.update(masks=options.pop('val_masks'), label_format=options.pop('format'))
    print(f'report: {distill(**options)}')
