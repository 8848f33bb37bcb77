"""The whole method on a rendered world, offline and on a CPU, in three minutes.

python tools/miniature.py [--work-dir DIR]

MaskCLIP, MaskCLIP with the class weight, the best free labels, a student trained on these labels:
one table of their mIoU on scenes that none of them has seen, and one picture. A run that was
stopped continues where it stopped.
"""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmseg.apis.command import add_device, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import output_dir
from mmseg.visualization import (
    beside,
    blend,
    contact_sheet,
    enlarged,
    legend,
    shares_of,
    with_names,
)

CONFIGS = Path(__file__).resolve().parent.parent / 'configs' / 'miniature'
TEACHERS = {
    'MaskCLIP': 'maskclip_rn',
    '+ class weight': 'maskclip_text_rn',
    'best free labels': 'best_labels_rn',
}
STUDENT = 'maskclip_plus_rn_resnet10'
SHOWN = (3, 7, 12, 21, 30)  # scenes of the picture


class Row(NamedTuple):
    """One method: its name, folder of label maps, metrics, and the network's photos/s."""

    name: str
    labels: Path
    metrics: dict[str, float]
    rate: float


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--work-dir', default='work_dirs/miniature')
    parser.add_argument('--iterations', type=int, help="of the student; default the config's")
    add_device(parser)
    args = parser.parse_args()
    if args.iterations is not None and args.iterations < 1:
        raise UserError(f'--iterations is 1 or more, not {args.iterations}')
    root = output_dir(args.work_dir)
    rows = [evaluate(name, config, root, args.device) for name, config in TEACHERS.items()]
    checkpoint = train_student(root, args.iterations, args.device)
    rows.append(evaluate('student on them', STUDENT, root, args.device, checkpoint))
    print_table(rows)
    draw_picture(root / 'miniature.png', rows)


def evaluate(
    name: str, config: str, root: Path, device: str | None, checkpoint: Path | None = None
) -> Row:
    """Evaluate a config, and write its label maps below the root."""
    from mmseg.apis.test import test
    from mmseg.engine import load_config
    from mmseg.utils import read_json

    folder = root / config
    print(f'{config} ...', flush=True)
    with contextlib.redirect_stdout(io.StringIO()):  # its own table; ours comes at the end
        metrics = test(
            load_config(CONFIGS / f'{config}.py'),
            checkpoint,
            work_dir=folder,
            out_dir=folder / 'labels',
            device=device,
        )
    report = read_json(max(folder.glob('eval_*.json')))
    return Row(name, folder / 'labels', metrics, report['photos'] / report['seconds'])


def train_student(root: Path, iterations: int | None, device: str | None) -> Path:
    """Write labels and train on them, or continue where a run stopped; return the checkpoint."""
    from mmseg.apis.train import train
    from mmseg.engine import load_config
    from mmseg.labelling.command import main as write_labels
    from mmseg.utils.checkpoint import newest_checkpoint

    student, labels, folder = CONFIGS / f'{STUDENT}.py', root / 'labels', root / STUDENT
    teacher = CONFIGS / f'{TEACHERS["best free labels"]}.py'
    print('labels of the scenes to train on ...', flush=True)
    command = [teacher, '--photos-of', student, '--batch', 50, '--out', labels]
    write_labels([*map(str, command), *(['--device', device] if device else [])])
    options: dict[str, Any] = {'pseudo_labels': str(labels.resolve())}
    if iterations is not None:
        options['train_cfg.max_iters'] = iterations
    print(f'training {STUDENT} ...', flush=True)
    runner = train(
        load_config(student, options),
        work_dir=folder,
        resume=newest_checkpoint(folder),
        validate=False,
        device=device,
    )
    if runner.iter < runner.max_iters:
        raise SystemExit(130)
    return newest_checkpoint(folder)


def print_table(rows: Sequence[Row]) -> None:
    print(f'\n{"":18}   mIoU    aAcc   photos/s')
    for row in rows:
        miou, accuracy = (100 * row.metrics[key] for key in ('mIoU', 'aAcc'))
        print(f'{row.name:18} {miou:6.2f}  {accuracy:6.2f}  {row.rate:9.0f}')


def draw_picture(path: Path, rows: Sequence[Row]) -> None:
    """Draw photo | truth | the labels of each row, with names and a legend."""
    import numpy as np
    from PIL import Image

    from mmseg.apis.result import write_image
    from mmseg.apis.test import require_data
    from mmseg.engine import load_config
    from mmseg.preparation.masks import read_labels

    dataset = require_data(load_config(CONFIGS / f'{STUDENT}.py').test_dataloader)
    names, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    lines, shown = [], []
    for i in SHOWN:
        scene_name = dataset.get_data_info(i)['img_path']
        scene = dataset.draw(scene_name)
        maps = [read_labels(row.labels / f'{Path(scene_name).stem}.png') for row in rows]
        photo = enlarged(scene.image)
        tinted = [
            with_names(blend(photo, labels, palette), labels, names)
            for labels in map(enlarged, (scene.mask, *maps))
        ]
        lines.append([photo, *tinted])
        shown.append(scene.mask)
    titles = [f'{row.name}: {100 * row.metrics["mIoU"]:.1f}' for row in rows]
    sheet = contact_sheet(lines, ['photo', 'truth', *titles])
    shares = shares_of(np.stack(shown), len(names))
    picture = beside([sheet, legend(shares, names, palette, height=len(sheet), size=14)])
    write_image(Image.fromarray(picture), path)
    print(f'picture: {path}')


if __name__ == '__main__':
    run_command(main)
