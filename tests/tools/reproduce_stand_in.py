"""Run tools/reproduce.py on stand-ins: hashed CLIPs, random trunks, 40 rendered photos, 2 steps.

python tests/tools/reproduce_stand_in.py FOLDER [--kill] [--like reproduction.json] [--rows ...]

Other arguments go to tools/reproduce.py. --kill stops each of its commands once, after one to four
lines of output, and starts the tool again. --like FILE fails where a figure is not that run's.
Needs the golden weights in ../shared. Nothing comes from the internet: the release of Pascal
Context is served from this machine, and the weights are files in FOLDER/pretrain.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from pycocotools import mask as coco
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / 'clip'))
sys.path.insert(0, str(Path(__file__).parents[1] / 'preparation'))

from conftest import ROOT, SHARED, load_module
from test_download import Server
from test_preparation import CONTEXT_IDS

from mmseg.datasets.miniature import render
from mmseg.models import build_mit

SHORT = ['train_cfg.max_iters=2', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=1']
PHOTOS, TRAIN = 40, 36


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--kill', action='store_true')
    parser.add_argument('--like', type=Path)
    args, others = parser.parse_known_args()
    if not (SHARED / 'golden').is_dir():
        sys.exit(
            f"error: {SHARED}/golden, which has the original's deterministic weights, is missing"
        )
    folder = args.folder.resolve()
    write_weights(folder / 'pretrain')
    server = Server()
    server.files = release()
    command = [sys.executable, str(ROOT / 'tools' / 'reproduce.py'), '--device', 'cpu', '--yes']
    command += ['--partial', '--mirror', server.address, *others, '--cfg-options', *SHORT]
    stopped: dict[str, int] = {}  # command: lines after which it was killed
    while (code := run(command, folder, stopped if args.kill else None)) is None:
        pass
    if stopped:
        print(f'killed {len(stopped)} times, at {sorted(set(stopped.values()))} lines of a command')
    figures = folder / 'work_dirs' / 'reproduction' / 'reproduction.json'
    if not code and args.like:
        mine, theirs = of_run(figures), of_run(args.like)
        differ = [row for row in mine if mine[row] != theirs.get(row)]
        sys.exit(f'other figures than {args.like}: {differ}' if differ else 0)
    sys.exit(code)


def run(command: list[str], folder: Path, stopped: dict[str, int] | None) -> int | None:
    """Run the tool; return its exit code, or None where it was killed."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONUNBUFFERED='1')
    tool = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert tool.stdout is not None
    step, lines = '', 0
    for line in tool.stdout:
        print(line, end='', flush=True)
        lines += 1
        if line.startswith('$ '):
            step, lines = line, 0
        if stopped is not None and step and step not in stopped and lines > len(stopped) % 4:
            stopped[step] = lines
            print(f'-- killed after {lines} lines of {step}', flush=True)
            os.killpg(tool.pid, signal.SIGKILL)
            tool.wait()
            return None
    return tool.wait()


def of_run(path: Path) -> dict[str, list[object]]:
    """Read what a stopped run must share with one that was not: {row: [mIoU, weights, curve]}."""
    rows = json.loads(path.read_text())['rows']
    keys = 'mIoU', 'photos', 'weights_sha256', 'curve'
    return {f'{row} {seed}': [x[k] for k in keys] for row in rows for seed, x in rows[row].items()}


def write_weights(folder: Path) -> None:
    """Write weights of the true shapes, where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    golden = SHARED / 'golden'
    hashed = load_module(golden / 'hashed_weights.py')
    for name, key in (('RN50', 'rn50'), ('ViT-B-16', 'vit16')):
        path = folder / f'{name}--openai.safetensors'
        if not path.exists():
            save_arrays(hashed.load(golden / f'keys_clip_{key}.json'), path)
    for name in ('resnet101c.gluon_in1k', 'vit_base_patch8_224.dino'):
        path = folder / f'{name}.safetensors'
        if not path.exists():
            save_file(timm.create_model(name).state_dict(), path)
    if not (folder / 'mit_b5.pth').exists():
        torch.save(build_mit('b5').state_dict(), folder / 'mit_b5.pth')


def release() -> dict[str, bytes]:
    """Make a release of Pascal Context in its own layout: {path on the server: content}."""
    archive = io.BytesIO()
    images, annotations = [], []
    with tarfile.open(fileobj=archive, mode='w') as tar:
        for i in range(PHOTOS):
            scene = render(np.random.default_rng((9, i)), 480)
            photo, labels, name = scene.image[:360], scene.mask[:360], f'2008_{i:06d}.jpg'
            content = io.BytesIO()
            Image.fromarray(photo).save(content, 'JPEG', quality=92)
            info = tarfile.TarInfo(f'VOCdevkit/VOC2010/JPEGImages/{name}')
            info.size = content.tell()
            content.seek(0)
            tar.addfile(info, content)
            phase = 'train' if i < TRAIN else 'val'
            images.append(dict(image_id=i, file_name=name, phase=phase, height=360, width=480))
            for label in np.unique(labels):
                rle = coco.encode(np.asfortranarray((labels == label).astype(np.uint8)))
                annotation = dict(
                    id=len(annotations),
                    image_id=i,
                    category_id=int(CONTEXT_IDS[1 + 4 * int(label)]),
                    segmentation=dict(size=rle['size'], counts=rle['counts'].decode()),
                )
                annotations.append(annotation)
    masks = dict(images=images, categories=[], annos_segmentation=annotations)
    return {
        '/VOCtrainval_03-May-2010.tar': archive.getvalue(),
        '/trainval_merged.json': json.dumps(masks).encode(),
    }


if __name__ == '__main__':
    main()
