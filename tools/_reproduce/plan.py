"""Say what a reproduction fetches, and how long it takes on this machine."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mmseg.engine import device_of, load_config
from mmseg.errors import UserError
from mmseg.utils import in_checkout, read_json, write_json

from .rows import DINO, VALIDATIONS, Row
from .run import PHOTOS, PRETRAIN, TOOLS, WEIGHTS, Reproduction, shown

DATA = 'data/VOCdevkit/VOC2010'
STEPS, STEPS_ON_CPU = 10, 2  # of a row, whose time is measured; a CPU's take seconds each
SHORT = 'out of memory'


class Download(NamedTuple):
    """What is fetched: for whom, how large, from where, under which terms."""

    name: str
    megabytes: int
    source: str
    terms: str


HUB = 'on the Hugging Face hub'
RN50 = Download('RN50', 256, 'OpenAI', 'MIT')
VIT = Download('ViT-B-16', 351, 'OpenAI', 'MIT')
RESNET101 = Download('resnet101c', 178, f'timm, {HUB}', 'Apache-2.0')
MIT_B5 = Download('mit_b5', 328, f'NVIDIA, {HUB}', 'not for commercial use')
DINO_B8 = Download('vit_base_patch8_224.dino', 343, f'timm, {HUB}', 'Apache-2.0')
PASCAL_CONTEXT = (
    Download('photos of VOC 2010', 1300, 'host.robots.ox.ac.uk', 'Flickr terms, for research'),
    Download('trainval_merged.json', 620, 'codalabuser.blob.core.windows.net', 'none stated'),
)


class Costs(NamedTuple):
    """Hours of all rows; {row's key: parts in which its batch fits into the memory}."""

    hours: float
    parts: dict[str, int]
    on_cpu: bool


def needed(rows: Sequence[Row]) -> tuple[list[Download], list[Download]]:
    """Return the CLIPs and the students' weights that rows need."""
    clips = [VIT] + [RN50] * any('_r50_' in row.config for row in rows)
    students = [RESNET101] * any('deeplabv2' in row.config for row in rows)
    students += [MIT_B5] * any('segformer_b5' in row.config for row in rows)
    with_dino = any(DINO in row.options or 'proxyclip' in row.config for row in rows)
    return clips, students + [DINO_B8] * with_dino


def missing(rows: Sequence[Row]) -> list[Download]:
    """Return what is not there yet."""
    clips, students = needed(rows)
    there = [path.name for path in Path(PRETRAIN).glob('*') if path.suffix in WEIGHTS]
    absent = [x for x in clips + students if not any(name.startswith(x.name) for name in there)]
    return absent + ([] if is_prepared() else list(PASCAL_CONTEXT))


def is_prepared() -> bool:
    return Path(in_checkout(DATA), 'ImageSets/SegmentationContext/val.txt').is_file()


def steps_to_fetch(
    rows: Sequence[Row], mirror: str | None = None, *, partial: bool = False
) -> list[list[Any]]:
    """Return the commands that fetch and verify; what is there already takes them seconds."""
    clips, students = needed(rows)
    weights = [TOOLS / 'download_weights.py', '--models', *(item.name for item in clips)]
    weights += ['--students', *(item.name for item in students)]
    data: list[Any] = [TOOLS / 'convert_datasets' / 'pascal_context.py', DATA, '--download']
    if is_prepared():
        data = [*data[:-1], '--verify']
    elif mirror:
        data += ['--mirror', mirror]
    return [weights, data + ['--partial'] * partial]


def require_space(run: Reproduction, rows: Sequence[Row]) -> None:
    """Raise a UserError if the disk is too full for downloads, masks and checkpoints."""
    megabytes = 1.5 * sum(item.megabytes for item in missing(rows))
    megabytes += 3000 * sum(row.iterations > 0 for row in rows)
    free = shutil.disk_usage(run.work_dir).free / 1e6
    if free < megabytes:
        raise UserError(
            f'{run.work_dir.resolve()} has {free / 1000:.1f} GB free, this needs about '
            f'{megabytes / 1000:.1f}; choose another --work-dir or fewer --rows'
        )


def print_plan(run: Reproduction, rows: Sequence[Row], seeds: Sequence[int]) -> Costs:
    """Print downloads, commands, time and memory; measure some steps of each row once a device."""
    device = device_of(run.device)
    wanted = [f'{x.name}, {x.megabytes} MB ({x.terms}) from {x.source}' for x in missing(rows)]
    commands = [f'$ {shown(command)}' for command in steps_to_fetch(rows)]
    print('To fetch:', *(wanted or ['nothing']), *commands, sep='\n  ')
    costs = [_cost(run, row, device) for row in rows]
    photos, hours, parts = PHOTOS[0], 0.0, {}
    print(f'\nOn {_device_name(device)}, by {_steps(device)} steps of each row:')
    for row, cost in zip(rows, costs):
        done = len(run.figures(row, seeds)) == (len(seeds) if row.iterations else 1)
        need = 0.0 if done else photos / cost['photos_s'] / 3600
        if row.iterations and not done:
            one = row.iterations / cost['iterations_s'] / 3600
            need = len(seeds) * (one + (1 + VALIDATIONS) * photos / cost['photos_s'] / 3600)
        hours, parts[row.key] = hours + need, cost['parts']
        state = 'measured' if done else f'{need:.1f} h'
        memory = f'{cost["mib"] / 1024:.1f} GiB'
        more = f', batch in {cost["parts"]} parts' if cost['parts'] > 1 else ''
        print(f'  {row.title:46} {state:>9}, {memory}{more}')
    print(f'  in all {hours:.1f} h')
    return Costs(hours, parts, device == 'cpu')


def _device_name(device: str) -> str:
    if torch.device(device).type == 'cpu':
        return f'this CPU ({torch.get_num_threads()} threads)'
    return str(torch.get_device_module(device).get_device_name(device))


def _steps(device: str) -> int:
    return STEPS_ON_CPU if torch.device(device).type == 'cpu' else STEPS


def _cost(run: Reproduction, row: Row, device: str) -> dict[str, Any]:
    """Measure a row's steps, or read what was measured on this device before."""
    path, key = run.work_dir / 'plan.json', f'{_device_name(device)}: {row.key}'
    kept = read_json(path) if path.is_file() else {}
    if key not in kept:
        print(f'measuring {_steps(device)} steps of {row.title} ...', flush=True)
        kept[key] = _measured(run, row, device)
        write_json(path, kept)
    return dict(kept[key])


def _measured(run: Reproduction, row: Row, device: str) -> dict[str, Any]:
    number = ['--number', _steps(device)]
    test = _benchmark(run, row, device, number)
    cost = dict(photos_s=test['rate']['median'], mib=_mib(test), parts=1)
    if not row.iterations:
        return cost
    batch = load_config(run.config(row)).train_dataloader.batch_size
    for parts in [batch] if device == 'cpu' else [1, 2, 4, batch]:
        options = ['--train', '--batch', batch // parts, *number]
        try:
            train = _benchmark(run, row, device, options)
        except UserError as error:
            if SHORT not in str(error):
                raise
            continue
        rate = train['rate']['median'] / parts
        parts = 1 if device == 'cpu' else parts  # one photo was measured, and the batch fits
        return cost | dict(iterations_s=rate, mib=_mib(train), parts=parts)
    raise UserError(f'{row.title} does not fit into the memory')


def _benchmark(run: Reproduction, row: Row, device: str, options: Sequence[Any]) -> dict[str, Any]:
    out = run.work_dir / 'benchmark.json'
    command = [TOOLS / 'benchmark.py', run.config(row), '--random-weights', '--synthetic']
    command += ['--repeats', 1, '--force', '--device', device, '--out', out, *options]
    if row.options:
        command += ['--cfg-options', *row.options]
    run.call(command, run.work_dir / 'plan.log', quiet=True)
    return dict(read_json(out)['results'][0])


def _mib(record: dict[str, Any]) -> int:
    return record['memory']['device_mib'] or record['memory']['host_mib']
