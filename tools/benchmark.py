"""How fast `tools/test.py` is on this machine, and where its time goes.

python tools/benchmark.py CONFIG [CONFIG ...] [--photos DIR] [--random-weights] [--out FILE.json]

End to end is the test's own path (worker processes, batches, metric); the split times its stages
one after the other in this process. The photos are the config's, a folder's (--photos), or made up
(--synthetic).
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import _checkout  # noqa: F401  first: it decides which mmseg is found
import numpy as np
import torch
from mmengine.config import ConfigDict
from PIL import Image

from mmseg.apis.command import ConfigOptions, run_command
from mmseg.engine import SegRunner, device_of, load_config
from mmseg.evaluation import confusion_matrix
from mmseg.utils import atomic_path, output_dir

STAGES = ('decode', 'transform', 'network', 'upsample + argmax', 'metric')


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    parser.add_argument('--photos', help="a folder of photos in place of the config's data")
    parser.add_argument('--synthetic', action='store_true', help='made-up photos of 500 x 375')
    parser.add_argument('--number', type=int, default=16, help='photos a run')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument(
        '--random-weights', action='store_true', help='speed does not need real ones'
    )
    parser.add_argument('--precision', choices=['fp32', 'bf16', 'fp16'], default='fp32')
    parser.add_argument('--device')
    parser.add_argument('--out', help='a JSON file')
    return parser.parse_args()


def main():
    args = parse_arguments()
    if args.out:
        output_dir(Path(args.out).parent)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        if args.synthetic:
            args.photos = folder
            make_photos(Path(folder), args.number)
        for path in args.configs:
            results.append(benchmark(path, args, folder))
            print(as_text(results[-1]), flush=True)
    if args.out:
        report = dict(machine=machine(), results=results)
        with atomic_path(args.out) as temporary:
            temporary.write_text(json.dumps(report, indent=1))


def make_photos(folder, number, size=(500, 375)):
    """Smooth noise as JPEG: as costly to decode as a photo of that size."""
    rng = np.random.default_rng(0)
    for i in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f'{i:04d}.jpg', quality=92)


def benchmark(path, args, folder):
    """One config -> {'photos_per_s', 'split', ...}: medians over the repeats, and the spread."""
    runner = make_runner(path, args, folder)
    model = runner.model
    dataset = runner.build_dataloader(runner.cfg.test_dataloader).dataset
    kind = torch.device(runner.cfg.device).type
    dtype = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)[args.precision]
    with torch.inference_mode(), torch.autocast(kind, dtype, enabled=args.precision != 'fp32'):
        time_stages(model, dataset, 2)  # warm up
        splits = [time_stages(model, dataset, args.number) for _ in range(args.repeats)]
        rates = [end_to_end(runner, args.number) for _ in range(args.repeats)]
    split = {stage: statistics.median(s[stage] for s in splits) for stage in STAGES}
    return dict(
        config=str(path),
        device=runner.cfg.device,
        precision=args.precision,
        photos=args.number,
        repeats=args.repeats,
        photos_per_s=statistics.median(rates),
        photos_per_s_range=[min(rates), max(rates)],
        split_ms=split,
        share_beside_network=1 - split['network'] / sum(split.values()),
    )


def make_runner(path, args, folder):
    config = load_config(path, args.cfg_options)
    if args.random_weights:
        for part in (config.model.backbone, (config.get('class_weight') or {}).get('weigher')):
            if part is not None:
                part.pretrained = 'random'
        for part in (config.model.decode_head, config.get('class_weight')):
            if part is not None:
                part.text = dict(templates='name')
        config.model.class_weight = config.get('class_weight')
    if args.photos:
        old = config.test_dataloader.dataset
        kept = {k: old[k] for k in ('pipeline', 'vocabulary', 'clip_view') if k in old}
        new = dict(type='ImageFolderDataset', data_root=args.photos, **kept)
        config.test_dataloader.dataset = ConfigDict(new)
    config.test_dataloader.dataset.indices = args.number
    config.work_dir, config.device = folder, device_of(args.device)
    config.custom_hooks, config.test_evaluator = [], []
    return SegRunner.from_cfg(config)


def time_stages(model, dataset, number):
    """-> {stage: milliseconds a photo}, the stages one after the other."""
    spent, device = defaultdict(float), next(model.buffers()).device
    load, *others = dataset.pipeline.transforms
    for i in range(min(number, len(dataset))):
        with stage(spent, 'decode'):
            results = load(dataset.get_data_info(i))
        with stage(spent, 'transform'):
            for transform in others:
                results = transform(results)
        data = model.data_preprocessor(
            dict(inputs=[results['inputs']], data_samples=[results['data_samples']])
        )
        image, sample = data['inputs'][0], data['data_samples'][0]
        with stage(spent, 'network', device):
            scores = model.scores(image[None], sample.view[None] if 'view' in sample else None)[0]
        with stage(spent, 'upsample + argmax', device):
            labels = model.labels(scores, sample.ori_shape, tuple(image.shape[1:]))
        truth = sample.gt_sem_seg if 'gt_sem_seg' in sample else torch.flip(labels, dims=(0,))
        with stage(spent, 'metric', device):
            confusion_matrix(labels, truth, len(scores))
    return {name: 1000 * spent[name] / min(number, len(dataset)) for name in STAGES}


class stage:
    """Add the time of a block to `spent[name]`, the device's own work included."""

    def __init__(self, spent, name, device=None):
        self.spent, self.name = spent, name
        self.device = device if device is not None and device.type != 'cpu' else None

    def wait(self):
        if self.device is not None:
            torch.get_device_module(self.device).synchronize(self.device)

    def __enter__(self):
        self.wait()
        self.start = time.perf_counter()

    def __exit__(self, *_):
        self.wait()
        self.spent[self.name] += time.perf_counter() - self.start


def end_to_end(runner, number):
    """-> photos a second of the test loop, from a fresh data loader to the last label map."""
    loader = runner.build_dataloader(runner.cfg.test_dataloader)
    start = time.perf_counter()
    for batch in loader:
        for sample in runner.model.test_step(batch):
            if 'gt_sem_seg' in sample:
                confusion_matrix(sample.pred_sem_seg, sample.gt_sem_seg, len(sample.seg_logits))
    return min(number, len(loader.dataset)) / (time.perf_counter() - start)


def machine():
    return dict(
        platform=f'{platform.system()} {platform.machine()}',
        cores=os.cpu_count(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        date=time.strftime('%Y-%m-%d'),
    )


def as_text(result):
    low, high = result['photos_per_s_range']
    split = '  '.join(f'{name} {ms:.1f}' for name, ms in result['split_ms'].items())
    return (
        f'{result["config"]} on {result["device"]} ({result["precision"]}): '
        f'{result["photos_per_s"]:.2f} photos/s ({low:.2f} to {high:.2f})\n'
        f'    ms a photo: {split}\n'
        f'    beside the network: {100 * result["share_beside_network"]:.1f} %'
    )


if __name__ == '__main__':
    run_command(main)
