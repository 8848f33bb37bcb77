"""The whole method on the rendered world, offline and on a CPU, in minutes.

python tools/miniature.py [--tower rn|vit] [--students segformer_b0 deeplabv2] [--work-dir DIR]

MaskCLIP, MaskCLIP with the class weight, a student trained on MaskCLIP's labels, the student with
the class weight on its scores: one table of their mIoU on scenes that none of them has seen, and
one sheet of pictures. A run that was stopped goes on where it stopped.
"""

import argparse
import contextlib
import io
import time
from pathlib import Path

import _checkout  # noqa: F401  first: it decides which mmseg is found
import numpy as np
from PIL import Image

from mmseg.apis.command import run_command
from mmseg.apis.test import require_data, test
from mmseg.apis.train import train
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir
from mmseg.utils.checkpoint import newest_checkpoint
from mmseg.visualization import contact_sheet

CONFIGS = Path(__file__).resolve().parent.parent / 'configs' / 'miniature'
STUDENTS = dict(segformer_b0='student SegFormer-b0', deeplabv2='student DeepLabv2')
SHOWN = 8  # scenes of the sheet


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--tower', choices=['rn', 'vit'], default='rn')
    parser.add_argument('--students', nargs='+', choices=STUDENTS, default=['segformer_b0'])
    parser.add_argument('--work-dir', default='work_dirs/miniature')
    parser.add_argument('--iterations', type=int, help="of a student; default the config's")
    parser.add_argument('--device', help='cpu, or an accelerator; default the best there is')
    args = parser.parse_args()
    if args.iterations is not None and args.iterations < 1:
        raise UserError(f'--iterations is 1 or more, not {args.iterations}')
    root = output_dir(args.work_dir)
    rows = []
    for name, config in (('MaskCLIP', 'maskclip'), ('+ class weight', 'maskclip_text')):
        path = CONFIGS / f'{config}_{args.tower}.py'
        rows.append((name, *evaluate(path, root, args.device), 0.0))
    for student in args.students:
        path = CONFIGS / f'maskclip_plus_{args.tower}_{student}.py'
        seconds = train_student(path, root / path.stem, args)
        checkpoint = newest_checkpoint(root / path.stem)  # of the last iteration
        found = evaluate(path, root, args.device, checkpoint)
        rows.append((STUDENTS[student], *found, seconds))
        weighed = path.with_stem(f'{path.stem}_class_weight')
        rows.append(('+ class weight', *evaluate(weighed, root, args.device, checkpoint), 0.0))
    print_table(rows)
    draw_sheet(root / 'sheet.png', path, rows)


def evaluate(path, root, device, checkpoint=None):
    """A config -> the folder of its label maps, its metrics, and the seconds that it took"""
    started, folder = time.monotonic(), root / path.stem
    print(f'{path.stem} ...', flush=True)
    with contextlib.redirect_stdout(io.StringIO()):  # its own table; ours comes at the end
        values = test(
            load_config(path),
            checkpoint,
            work_dir=folder,
            out_dir=folder / 'labels',
            device=device,
        )
    return folder / 'labels', values, time.monotonic() - started


def train_student(path, folder, args):
    """Train, or go on where a stopped or shorter run is -> seconds"""
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


def print_table(rows):
    print(f'\n{"":22}   mIoU    aAcc   evaluated in   trained in')
    for name, _, values, seconds, training in rows:
        miou, accuracy = (100 * values[key] for key in ('mIoU', 'aAcc'))
        trained = f'{training:8.0f} s' if training else ''
        print(f'{name:22} {miou:6.2f}  {accuracy:6.2f}  {seconds:11.0f} s   {trained}')


def draw_sheet(path, config, rows):
    """photo | truth | what each row's method says, for the first scenes"""
    dataset = require_data(load_config(config).test_dataloader)
    palette = np.array(dataset.metainfo['palette'], np.uint8)
    lines = []
    for i in range(SHOWN):
        name = dataset.get_data_info(i)['img_path']
        scene = dataset.draw(name)
        maps = [np.asarray(Image.open(row[1] / f'{Path(name).stem}.png')) for row in rows]
        lines.append([scene.image, *(palette[labels] for labels in (scene.mask, *maps))])
    sheet = contact_sheet(lines, ['photo', 'truth', *(row[0] for row in rows)], scale=2)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary)
    print(f'pictures: {path}')


if __name__ == '__main__':
    run_command(main)
