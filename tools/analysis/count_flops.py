"""Operations and bytes of the networks, and what this machine can do of either in a second.

python tools/analysis/count_flops.py [CONFIG ...] [--size 520] [--measure] [--out FILE.json]

A multiplication and an addition are two operations. Networks are counted on tensors without data;
bytes are what every operator reads and writes in fp32, as if nothing stayed in a cache, and the
weights once. A step of training on one crop is three times the student's pass (a backward pass
multiplies twice) and the teacher's once.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found
import torch
from _benchmark_report import machine
from _benchmark_setup import forget_weights
from mmengine.registry import DefaultScope
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mmseg.apis.command import run_command
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.kernels import linear
from mmseg.registry import MODELS, SCOPE
from mmseg.utils import atomic_path

ROOT = Path(__file__).resolve().parent.parent.parent / 'configs'
STUDENT = 'maskclip_plus/anno_free/maskclip_plus_vit16_{}_pascal_context_59.py'
CONFIGS = (
    ROOT / 'maskclip/maskclip_vit16_520x520_pascal_context_59.py',
    ROOT / STUDENT.format('segformer_b5_480x480_8k'),
    ROOT / STUDENT.format('deeplabv2_r101-d8_480x480_4k'),
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='*', metavar='CONFIG', default=CONFIGS)
    parser.add_argument('--size', type=int, default=520, help='pixels of both sides')
    parser.add_argument('--measure', action='store_true', help='what this machine does a second')
    parser.add_argument('--out', help='a JSON file')
    args = parser.parse_args()
    if args.size < 32:
        raise UserError(f'--size is at least 32, not {args.size}')
    rows = [count(path, args.size) for path in args.configs]
    for row in rows:
        print(as_text(row))
    report = dict(size=args.size, by_hand_vit_b16=vit_by_hand(args.size), networks=rows)
    print(f'CLIP ViT-B/16 by hand: {report["by_hand_vit_b16"] / 1e9:.1f} GFLOP')
    if args.measure:
        report |= dict(machine=machine(), limits=measure())
        limits = ', '.join(f'{k} {v / 1e9:.0f} G/s' for k, v in report['limits'].items())
        print(f'this machine: {limits}')
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(json.dumps(report, indent=1))


def count(path, size):
    """A config -> {'forward': {'flop', 'bytes'}, 'training_flop': of a step or None, ...}"""
    config = load_config(path)
    forget_weights(config)
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(config.model).to('meta').eval()
    image = torch.zeros(1, 3, size, size, device='meta')
    row = dict(
        config=Path(path).stem,
        weight_bytes=sum(t.numel() * t.element_size() for t in model.parameters()),
        forward=counted(model.scores, image),
        training_flop=None,
    )
    if config.model.type == 'MaskClipPlus':
        teacher = counted(model.frozen['teacher'].scores, image)
        row['training_flop'] = 3 * row['forward']['flop'] + teacher['flop']
    return row


@torch.no_grad()
def counted(scores, image):
    """A model's `scores`, an image -> {'flop': ..., 'bytes': ...}"""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        scores(image)
    return dict(flop=flops.get_total_flops(), bytes=traffic.bytes)


class Traffic(TorchDispatchMode):
    """Bytes of all operators' inputs and outputs; views move nothing."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return out


def vit_by_hand(size, *, width=768, blocks=12, patch=16, dim=512, classes=59, key_layers=2):
    """MaskCLIP on a ViT -> FLOP: L tokens, the last block without queries and attention.

    A block has 24 L D^2 (queries, keys and values 6, output 2, MLP 16) and 4 L^2 D of attention.
    As published, the last keys go through two layers (Q2); else through one.
    """
    places = math.ceil(size / patch) ** 2
    tokens = places + 1
    block = 24 * tokens * width**2 + 4 * tokens**2 * width
    last = (20 + 2 * key_layers) * places * width**2
    ends = 2 * places * (3 * patch**2 * width + width * dim + dim * classes)
    return (blocks - 1) * block + last + ends


def measure(seconds=2.0):
    """-> {'flop': ..., 'bytes': ...} a second of fp32 matrix products and of copies"""
    x, weight = torch.randn(2048, 768), torch.randn(3072, 768)
    big = torch.randn(2**26)
    flop = 2 * 2048 * 768 * 3072 * rate_of(lambda: linear(x, weight), seconds)
    copied = torch.empty_like(big)
    return dict(flop=flop, bytes=8 * big.numel() * rate_of(lambda: copied.copy_(big), seconds))


def rate_of(call, seconds):
    """-> calls a second, the best of the runs"""
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = max(best, 1 / (time.perf_counter() - start))
    return best


def as_text(row):
    """A row of `count` -> a line"""
    forward = row['forward']
    training = f'; training {row["training_flop"] / 1e9:.0f} GFLOP' if row['training_flop'] else ''
    return (
        f'{row["config"]}: weights {row["weight_bytes"] / 1e6:.0f} MB; forward '
        f'{forward["flop"] / 1e9:.1f} GFLOP, {forward["bytes"] / 1e9:.2f} GB{training}'
    )


if __name__ == '__main__':
    run_command(main)
