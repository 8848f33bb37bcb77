"""The whole method on the rendered world, offline and on a CPU, in minutes.

python tools/miniature.py [--tower rn|vit] [--students segformer_b0 deeplabv2] [--work-dir DIR]

MaskCLIP, MaskCLIP with the class weight, a student trained on MaskCLIP's labels, the student with
the class weight on its scores: one table of their mIoU on scenes that none of them has seen, and
one sheet of pictures. A run that was stopped continues where it stopped.
"""

import argparse
import contextlib
import io
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mmseg.apis.command import add_device, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir
from mmseg.visualization import contact_sheet

CONFIGS = Path(__file__).resolve().parent.parent / 'configs' / 'miniature'
STUDENTS = dict(segformer_b0='student SegFormer-b0', deeplabv2='student DeepLabv2')
SHOWN = 8  # scenes of the sheet


class Row(NamedTuple):
    """One method: its name, folder of label maps, metrics, seconds of evaluation and training."""

    name: str
    labels: Path
    metrics: dict[str, float]
    seconds: float
    training: float = 0.0


def parse_arguments() -> argparse.Namespace:
    parser = documented_parser(__doc__)
    parser.add_argument('--tower', choices=['rn', 'vit'], default='rn')
    parser.add_argument('--students', nargs='+', choices=STUDENTS, default=['segformer_b0'])
    parser.add_argument('--work-dir', default='work_dirs/miniature')
    parser.add_argument('--iterations', type=int, help="of a student; default the config's")
    add_device(parser)
    args = parser.parse_args()
    if args.iterations is not None and args.iterations < 1:
        raise UserError(f'--iterations is 1 or more, not {args.iterations}')
    return args


def main() -> None:
    args = parse_arguments()
    from mmseg.utils.checkpoint import newest_checkpoint

    root = output_dir(args.work_dir)
    rows = []
    for name, config in (('MaskCLIP', 'maskclip'), ('+ class weight', 'maskclip_text')):
        path = CONFIGS / f'{config}_{args.tower}.py'
        rows.append(evaluate(name, path, root, args.device))
    for student in args.students:
        path = CONFIGS / f'maskclip_plus_{args.tower}_{student}.py'
        seconds = train_student(path, root / path.stem, args)
        checkpoint = newest_checkpoint(root / path.stem)  # of the last iteration
        row = evaluate(STUDENTS[student], path, root, args.device, checkpoint)
        rows.append(row._replace(training=seconds))
        weighed = path.with_stem(f'{path.stem}_class_weight')
        with another_class_weight():
            rows.append(evaluate('+ class weight', weighed, root, args.device, checkpoint))
    print_table(rows)
    draw_sheet(root / 'sheet.png', path, rows)


def evaluate(
    name: str, path: Path, root: Path, device: str | None, checkpoint: Path | None = None
) -> Row:
    """Evaluate a config, and write its label maps below the root."""
    from mmseg.apis.test import test
    from mmseg.engine import load_config

    started, folder = time.monotonic(), root / path.stem
    print(f'{path.stem} ...', flush=True)
    with contextlib.redirect_stdout(io.StringIO()):  # its own table; ours comes at the end
        values = test(
            load_config(path), checkpoint, work_dir=folder, out_dir=folder / 'labels', device=device
        )
    return Row(name, folder / 'labels', values, time.monotonic() - started)


@contextlib.contextmanager
def another_class_weight() -> Iterator[None]:
    """Silence the warning that a student was trained with another class weight: it was, on purpose.

    The student is trained on MaskCLIP's labels; the row shows what the class weight adds in a test.
    """
    logger = logging.getLogger('mmseg.models.checkpoints')

    def is_unexpected(record: logging.LogRecord) -> bool:
        return 'another class_weight' not in record.getMessage()

    logger.addFilter(is_unexpected)
    try:
        yield
    finally:
        logger.removeFilter(is_unexpected)


def train_student(path: Path, folder: Path, args: argparse.Namespace) -> float:
    """Train, or continue where a stopped or shorter run ended; return the seconds."""
    from mmseg.apis.train import train
    from mmseg.engine import load_config
    from mmseg.utils.checkpoint import newest_checkpoint

    started, options = time.monotonic(), {}
    if args.iterations is not None:
        options['train_cfg.max_iters'] = args.iterations
    print(f'training {path.stem} ...', flush=True)
    runner = train(
        load_config(path, options),
        work_dir=folder,
        resume=newest_checkpoint(folder),
        validate=False,
        device=args.device,
    )
    if runner.iter < runner.max_iters:
        raise SystemExit(130)
    return time.monotonic() - started


def print_table(rows: Sequence[Row]) -> None:
    print(f'\n{"":22}   mIoU    aAcc   evaluated in   trained in')
    for row in rows:
        miou, accuracy = (100 * row.metrics[key] for key in ('mIoU', 'aAcc'))
        trained = f'{row.training:8.0f} s' if row.training else ''
        print(f'{row.name:22} {miou:6.2f}  {accuracy:6.2f}  {row.seconds:11.0f} s   {trained}')


def draw_sheet(path: Path, config: Path, rows: Sequence[Row]) -> None:
    """Draw photo | truth | the labels of each row, for the first scenes."""
    import numpy as np
    from PIL import Image

    from mmseg.apis.test import require_data
    from mmseg.engine import load_config
    from mmseg.preparation.masks import read_labels

    dataset = require_data(load_config(config).test_dataloader)
    palette = np.array(dataset.metainfo['palette'], np.uint8)
    lines = []
    for i in range(SHOWN):
        name = dataset.get_data_info(i)['img_path']
        scene = dataset.draw(name)
        maps = [read_labels(row.labels / f'{Path(name).stem}.png') for row in rows]
        lines.append([scene.image, *(palette[labels] for labels in (scene.mask, *maps))])
    sheet = contact_sheet(lines, ['photo', 'truth', *(row.name for row in rows)], scale=2)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary)
    print(f'pictures: {path}')


if __name__ == '__main__':
    run_command(main)
