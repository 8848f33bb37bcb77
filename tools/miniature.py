"""The whole method on the rendered world, offline and on a CPU, in minutes.

python tools/miniature.py [--tower rn|vit] [--student segformer_b0|deeplabv2] [--work-dir DIR]

MaskCLIP, MaskCLIP with the class weight, a student trained on MaskCLIP's labels: one table of their
mIoU on scenes that none of them has seen, and one sheet of pictures. A run that was stopped goes on
where it stopped.
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
from mmseg.apis.test import test
from mmseg.apis.train import train
from mmseg.engine import load_config
from mmseg.utils import atomic_path, output_dir
from mmseg.utils.checkpoint import newest_checkpoint
from mmseg.visualization import contact_sheet

CONFIGS = Path(__file__).resolve().parent.parent / 'configs' / 'miniature'
SHOWN = 8  # scenes of the sheet


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--tower', choices=['rn', 'vit'], default='rn')
    parser.add_argument('--student', choices=['segformer_b0', 'deeplabv2'], default='segformer_b0')
    parser.add_argument('--work-dir', default='work_dirs/miniature')
    parser.add_argument('--iterations', type=int, help="of the student; default the config's")
    parser.add_argument('--device', help='cpu, or an accelerator; default the best there is')
    args = parser.parse_args()
    root = output_dir(args.work_dir)
    student = CONFIGS / f'maskclip_plus_{args.tower}_{args.student}.py'
    rows = [
        ('MaskCLIP', *evaluate(CONFIGS / f'maskclip_{args.tower}.py', root, args.device)),
        (
            '+ class weight',
            *evaluate(CONFIGS / f'maskclip_text_{args.tower}.py', root, args.device),
        ),
    ]
    seconds = train_student(student, root / student.stem, args)
    checkpoint = newest_checkpoint(root / student.stem)
    name = f'student ({args.student})'
    rows.append((name, *evaluate(student, root, args.device, checkpoint)))
    print_table(rows, seconds)
    draw_sheet(root / 'sheet.png', load_config(student), [(n, folder) for n, folder, *_ in rows])


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
    """Train, or go on where a stopped run is -> seconds"""
    started, config = time.monotonic(), load_config(path)
    if args.iterations:
        config.train_cfg.max_iters = args.iterations
        config.param_scheduler[-1].end = args.iterations + 1
    last = folder / f'iter_{config.train_cfg.max_iters}.pth'
    print(f'training {path.stem} ...', flush=True)
    if not last.exists():
        resume = 'auto' if any(folder.glob('iter_*.pth')) else None
        runner = train(config, work_dir=folder, resume=resume, validate=False, device=args.device)
        if runner.iter < runner.max_iters:
            raise SystemExit(130)
    return time.monotonic() - started


def print_table(rows, training):
    print(f'\n{"":28}   mIoU    aAcc   seconds')
    for name, _, values, seconds in rows:
        extra = f' (training {training:.0f})' if name.startswith('student') else ''
        miou, accuracy = (100 * values[key] for key in ('mIoU', 'aAcc'))
        print(f'{name:28} {miou:6.2f}  {accuracy:6.2f}   {seconds:.0f}{extra}')


def draw_sheet(path, config, runs):
    """photo | truth | what each run says, for the first scenes"""
    from mmseg.apis.test import require_data

    dataset = require_data(config.test_dataloader)
    palette = np.array(dataset.metainfo['palette'])
    lines = []
    for i in range(SHOWN):
        name = dataset.get_data_info(i)['img_path']
        scene = dataset.draw(name)
        maps = [np.asarray(Image.open(folder / f'{Path(name).stem}.png')) for _, folder in runs]
        lines.append([scene.image, *(palette[m].astype(np.uint8) for m in (scene.mask, *maps))])
    sheet = contact_sheet(lines, ['photo', 'truth', *(name for name, _ in runs)], scale=2)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary)
    print(f'pictures: {path}')


if __name__ == '__main__':
    run_command(main)
