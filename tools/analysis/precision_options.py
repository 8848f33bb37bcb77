"""What half precision, `torch.compile` and int8 weights give a config's network on this machine.

python tools/analysis/precision_options.py CONFIG [--ways fp32 bf16 ...] [--out FILE.json]

Every way labels the same photos: the time of the network alone, a photo at a time, and the share of
pixels that get the label they get in plain fp32. `plain` is PyTorch's own layers in fp32, `fp32`
this project's kernels; int8 quantises the weights of a ViT's linear layers and, in every pass, what
goes into them (PyTorch's dynamic quantisation).
"""

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found
import torch
from _benchmark_clock import Clock
from _benchmark_fast_test import Fast
from _benchmark_plain import plain_pytorch
from _benchmark_report import write_report
from _benchmark_setup import test_runner
from torch import nn

from mmseg import kernels
from mmseg.apis.command import ConfigOptions, run_command
from mmseg.clip import transformer, vit
from mmseg.clip.readout import last_block
from mmseg.engine import autocast_of, compile_network
from mmseg.errors import UserError

LINEAR_IN = (transformer, vit, last_block)  # the modules of a ViT that multiply
WAYS = ('plain', 'fp32', 'bf16', 'fp16', 'compile', 'int8')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=WAYS)
    parser.add_argument('--number', type=int, default=4, help='photos')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--random-weights', action='store_true')
    parser.add_argument('--synthetic', action='store_true', help='made-up photos of 500 x 375')
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help="the process's time, not the clock's, where others use the machine (1 thread)",
    )
    parser.add_argument('--device', help='cpu, or an accelerator; default the best there is')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    parser.add_argument('--out', help='a JSON file')
    args = parser.parse_args()
    if min(args.number, args.repeats) < 1:
        raise UserError('--number and --repeats are at least 1')
    args.batch, args.photos, args.precision, args.compile = 1, None, 'fp32', False
    with tempfile.TemporaryDirectory() as folder:
        records = measure(Fast(test_runner(args.config, args, folder), args), args)
    if args.out:
        write_report(records, args.out)


def measure(fast, args):
    """A Fast, options -> [record] of the ways, printed"""
    clock, device = Clock(fast.runner.cfg.device), fast.runner.cfg.device
    batches = [fast.load([index], clock) for index in fast.order[: args.number]]
    records, plain = [], None
    now = time.process_time if args.cpu_time else time.perf_counter
    for name in dict.fromkeys(('plain', *args.ways)):
        with way(name, fast.model, device), torch.no_grad():
            labels = [labels_of(fast.model, batch) for batch in batches]  # warms up, compiles
            times = [time_of(fast.model, batches, clock, now) for _ in range(args.repeats)]
        plain = labels if plain is None else plain
        same = sum(int((a == b).sum()) for a, b in zip(labels, plain))
        record = dict(
            config=args.config,
            way=name,
            device=device,
            photos=len(batches),
            of_the_process=args.cpu_time,
            network_ms=dict(median=statistics.median(times), low=min(times), high=max(times)),
            labels_as_plain=same / sum(x.numel() for x in plain),
        )
        records.append(record)
        print(
            f'{name:8} {record["network_ms"]["median"]:8.1f} ms   labels as plain fp32 '
            f'{100 * record["labels_as_plain"]:.3f} %',
            flush=True,
        )
    return records


def labels_of(model, batch):
    (image,), (sample,) = batch['inputs'], batch['data_samples']
    (maps,) = model.query_logits_of_samples([image], [sample])
    return model.labels(maps.float(), sample.ori_shape, image)


def time_of(model, batches, clock, now):
    """-> milliseconds a photo in the network"""
    clock.wait()
    start = now()
    for batch in batches:
        model.query_logits_of_samples(batch['inputs'], batch['data_samples'])
    clock.wait()
    return 1000 * (now() - start) / len(batches)


@contextmanager
def way(name, model, device):
    """Within it, the model runs that way."""
    contexts = dict(plain=lambda: plain_pytorch(model), int8=int8_linears)
    if name == 'compile':
        compile_network(model)
    half = autocast_of(name, device) if name in ('bf16', 'fp16') else nullcontext()
    try:
        with contexts.get(name, nullcontext)(), half:
            yield
    finally:
        if name == 'compile':
            del model.window_logits


@contextmanager
def int8_linears():
    """Within it, the towers' linear layers multiply in int8."""
    known = {}

    def linear(x, weight, bias=None):
        key = (weight.data_ptr(), weight.shape, weight.stride())
        if key not in known:
            known[key] = quantized(weight, bias)
        return known[key](x)

    try:
        for module in LINEAR_IN:
            module.linear = linear
        yield
    finally:
        for module in LINEAR_IN:
            module.linear = kernels.linear


def quantized(weight, bias):
    """(O, I), (O) or None -> a module of the same product in int8"""
    layer = nn.Linear(*weight.shape[::-1], bias=bias is not None)
    layer.weight.data = weight.detach().clone()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear})


if __name__ == '__main__':
    run_command(main)
