"""Measure tests or trainings for benchmark.py, as the tools run them and by plain PyTorch."""

import math
import os
import statistics
import tempfile
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmseg import kernels
from mmseg.apis.command import settings_of
from mmseg.apis.export import require_scores_alone
from mmseg.apis.record import environment
from mmseg.apis.test import DEFAULT_HOOKS
from mmseg.datasets.reading import crop_for_prior, read_photo
from mmseg.engine import (
    SegRunner,
    SegTestLoop,
    device_of,
    forget_weights,
    init_processes,
    keep_freed_memory,
    load_config,
)
from mmseg.errors import UserError
from mmseg.models.engines import parts_of
from mmseg.utils import output_dir
from mmseg.utils.tensors import peak_memory
from mmseg.vocabularies import load_vocabulary

GOVERNOR = '/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor'
FLAGS = ('avx2', 'avx512f', 'avx512_bf16', 'avx512_vnni', 'amx_bf16', 'amx_int8')
BASELINE, CASE = 'baseline', ('config', 'size')
TEST_STAGES = ('decode', 'transform', 'copy', 'network', 'upsample + argmax', 'metric')
TRAIN_STAGES = ('data', 'teacher', 'student forward', 'backward', 'step')
DATASET_KEYS = ('pipeline', 'vocabulary', 'prior_crop_size', 'unseen', 'seed')


def machine() -> dict[str, Any]:
    """Describe this machine."""
    counts = dict(cores=os.cpu_count(), threads=torch.get_num_threads())
    date = time.strftime('%Y-%m-%d')
    return dict(environment(device_of()), cpu=processor(), date=date, **counts, **limits())


def limits(size: int = 2048, seconds: float = 0.5) -> dict[str, float]:
    """Measure what bounds any program on this CPU: {'gflops': of fp32 products, 'gb_s': of copies}.

    The best of PyTorch's product and this project's (`kernels.linear`), and of copies that no cache
    holds, by all threads.
    """

    def best(function: Callable[[], Any]) -> float:
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    a, b = torch.rand(size, size), torch.rand(size, size)
    product = min(best(lambda: a @ b), best(lambda: kernels.linear(a, b)))
    source, target = torch.rand(4 * size, 4 * size), torch.empty(4 * size, 4 * size)
    moved = 2 * source.numel() * source.element_size()  # read and written
    copied = best(lambda: target.copy_(source))
    return dict(gflops=round(2 * size**3 / product / 1e9, 1), gb_s=round(moved / copied / 1e9, 1))


def processor(
    path: str | Path = '/proc/cpuinfo', governor: str | Path = GOVERNOR
) -> dict[str, str]:
    """Describe the CPU: {'name', 'family', 'flags', 'governor'}; {} but on Linux.

    The flags are those of FLAGS. A virtual machine does not show the governor of clock rates.
    """
    try:
        lines = [line.partition(':') for line in Path(path).read_text().splitlines()]
    except OSError:
        return {}
    clock = Path(governor)
    known = {key.strip(): value.strip() for key, _, value in lines}
    family = f'{known.get("cpu family", "?")}, model {known.get("model", "?")}'
    flags = ' '.join(flag for flag in FLAGS if flag in known.get('flags', '').split())
    rule = clock.read_text().strip() if clock.is_file() else 'not shown'
    return dict(name=known.get('model name', ''), family=family, flags=flags, governor=rule)


def busy_cores(seconds: float = 0.5) -> float:
    """Measure how many cores others keep busy, while this process sleeps; 0.0 but on Linux."""
    try:
        before = _ticks()
        time.sleep(seconds)
        idle, total = (after - first for after, first in zip(_ticks(), before))
    except OSError:
        return 0.0
    return round((os.cpu_count() or 1) * (1 - idle / total), 2) if total else 0.0


def _ticks() -> tuple[int, int]:
    """Return the idle ticks, and all, of all cores since the machine started."""
    with open('/proc/stat') as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


class Clock:
    """Measure the seconds of each stage, including the work of the device."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds = torch.device(device), defaultdict[str, float](float)

    def wait(self) -> None:
        if self.device.type != 'cpu':
            torch.get_device_module(self.device).synchronize(self.device)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.wait()
        start = time.perf_counter()
        yield
        self.wait()
        self.seconds[name] += time.perf_counter() - start

    @contextmanager
    def methods(self, owner: Any, **stages: str) -> Iterator[None]:
        """Within it, `owner.method` counts as the stage that `method='stage'` names."""
        with ExitStack() as stack:
            for method, name in stages.items():
                timed = self.stage(name)(getattr(owner, method))
                stack.enter_context(patch.object(owner, method, timed))
            yield

    def milliseconds(self, stages: Sequence[str], count: int) -> dict[str, float]:
        """Return the stages, and as 'other' what they leave of the stage 'all'."""
        parts = {stage: self.seconds[stage] for stage in stages}
        parts['other'] = self.seconds['all'] - sum(parts.values())
        return {stage: 1000 * seconds / count for stage, seconds in parts.items()}


def measure(
    cases: Sequence[tuple[str, int | None]], args: Namespace, load: list[float]
) -> list[dict[str, Any]]:
    """Measure configs at sizes, each way; return their records.

    Args:
        cases: config and size; None for the config's.
        load: gets what `busy_cores` is after each turn.

    Raises:
        UserError: windows, post-processing or thresholds, which the baseline does not do.
    """
    runs, records = list[Any](), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        for path, size in cases:
            with settings_of(load_config(path)):
                runner = _runner(path, args, output_dir(Path(folder, str(len(runs)))), size)
                if args.baseline and not args.train:
                    require_scores_alone(runner.model, 'the baseline (--baseline)')
                for way in ('config', *[BASELINE] * args.baseline, *args.engines):
                    start = partial(Training if args.train else Test, runner, way)
                    about = dict(config=str(path), size=size, device=runner.cfg.device, way=way)
                    records.append(about | _first_use(start, runner.cfg.device))
                    runs.append(start())
                    records[-1].update(runs[-1].described)
        splits: list[list[dict[str, float]]] = [[] for _ in runs]
        rates: list[list[float]] = [[] for _ in runs]
        for turn in range(args.repeats + 1):  # in turns: a busy machine slows all
            for i, run in enumerate(runs):
                split, (rate, _) = run.split(), run.end_to_end(args.number)
                if turn:  # the first has what a process does once
                    splits[i].append(split)
                    rates[i].append(rate)
            load.append(busy_cores(0.3))
        for record, run, rate, split in zip(records, runs, rates, splits):
            record |= dict(turns=args.repeats, rate=dict(unit=run.unit, **spread(rate)))
            record['split_ms'] = {k: spread([row[k] for row in split]) for k in split[0]}
            if not args.train:
                beside = [sum(row.values()) - row['network'] for row in split]
                record['beside_network_ms'] = spread(beside)
        _compare(records, runs, rates)
    return records


def _first_use(start: Callable[[], Any], device: str) -> dict[str, Any]:
    """Measure the first seconds of a way, and its memory after it has begun."""
    began = time.perf_counter()
    run = start()
    run.end_to_end(1)
    seconds = time.perf_counter() - began
    _restart_peaks(device)
    return dict(first_s=seconds, mIoU=run.end_to_end(1)[1], memory=_peaks(device))


def _compare(
    records: Sequence[dict[str, Any]], runs: Sequence[Any], rates: Sequence[Sequence[float]]
) -> None:
    """Add the ratio to the config's baseline, or to the first way of all; and the labels kept."""
    for i, record in enumerate(records):
        same = [j for j, r in enumerate(records) if all(r[k] == record[k] for k in CASE)]
        reference = next((j for j in same if records[j]['way'] == BASELINE), 0)
        if i == reference:
            continue
        to = ' '.join(str(records[reference][k]) for k in ('config', 'way'))
        values = [a / b for a, b in zip(rates[i], rates[reference])]
        record['ratio'] = dict(to=to, **spread(values))
        if reference in same and record['what'] == 'test':
            record['labels_kept'] = _agreement(runs[i], runs[reference])


def spread(values: Sequence[float]) -> dict[str, float]:
    return dict(median=statistics.median(values), low=min(values), high=max(values))


def _restart_peaks(device: str) -> None:
    with suppress(OSError):  # Linux can; elsewhere the peak is since the process began
        Path('/proc/self/clear_refs').write_text('5')
    if torch.device(device).type != 'cpu':
        torch.get_device_module(device).reset_peak_memory_stats()


def _peaks(device: str) -> dict[str, int | None]:
    accelerator = torch.device(device).type != 'cpu'
    return dict(
        host_mib=round(peak_memory('cpu') / 2**20),
        device_mib=round(peak_memory(device) / 2**20) if accelerator else None,
    )


class Test:
    """The test loop of tools/test.py; or a test of the same weights as mmsegmentation 0.x runs it.

    The plain way takes one photo at a time, in fp32. It resizes scores to the padded input and
    again to the photo, all classes at once; then softmax and arg-max.

    Args:
        runner: of the config.
        way: 'config', BASELINE, or an engine and its precision, 'onnxruntime:int8'.
    """

    unit = 'photos/s'

    def __init__(self, runner: SegRunner, way: str) -> None:
        self.runner, self.model, self.plain = runner, runner.model, way == BASELINE
        loader, settings = runner.cfg.test_dataloader.to_dict(), runner.cfg.test_cfg
        loader['persistent_workers'] = bool(loader.get('num_workers'))
        engine = {key: settings[key] for key in ('engine', 'precision') if key in settings}
        if self.plain:
            load, *others = loader['dataset']['pipeline']
            loader['dataset']['pipeline'] = [load, read_again, *others]
            loader |= dict(batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
            engine = {}
        elif way != 'config':
            name, _, precision = way.partition(':')
            engine = dict(engine=name, precision=precision or 'fp32')
        evaluator = runner.cfg.test_evaluator
        self.loop = SegTestLoop(runner, loader, evaluator, **engine)
        self.loop.engine.install(self.model)
        parts = [(owner, name) for owner, names in parts_of(self.model) for name in names]
        self.functions = [(owner, name, getattr(owner, name)) for owner, name in parts]
        alone = loader | dict(num_workers=0, persistent_workers=False)
        self.local = SegTestLoop(runner, alone, evaluator)
        self.dataset = self.local.dataloader.dataset

    @property
    def described(self) -> dict[str, Any]:
        counts = dict(classes=len(self.dataset.vocabulary), photos=len(self.dataset))
        batch = self.loop.dataloader.batch_size
        kind = dict(engine=self.loop.engine.name, precision=self.loop.engine.precision)
        return dict(what='test', **kind, batch=batch, **counts)

    @contextmanager
    def way(self) -> Iterator[None]:
        with ExitStack() as stack:
            for part in self.functions:
                stack.enter_context(patch.object(*part))
            if self.plain:
                stack.enter_context(plain_pytorch(self.model))
                plain = partial(plain_labels, self.model)
                stack.enter_context(patch.object(self.model, 'labels', plain))
            yield

    def split(self) -> dict[str, float]:
        """Return milliseconds per photo of each stage and of the rest, all in this process."""
        clock, pipeline = Clock(self.runner.cfg.device), self.dataset.pipeline
        stages = ['decode', *['decode'] * self.plain, *['transform'] * len(pipeline.transforms)]
        timed = [clock.stage(name)(step) for name, step in zip(stages, pipeline.transforms)]
        network = {'query_logits': 'network', 'labels': 'upsample + argmax'}
        with (
            self.way(),
            patch.object(pipeline, 'transforms', timed),
            clock.methods(self.model.data_preprocessor, forward='copy'),
            clock.methods(self.model, **network),
            clock.methods(self.local.evaluator, process='metric'),
            clock.stage('all'),
        ):
            self.local.run()
        return clock.milliseconds(TEST_STAGES, len(self.dataset))

    def end_to_end(self, _: int) -> tuple[float, float | None]:
        """Return photos per second, and mIoU, of the test loop with its workers."""
        start = time.perf_counter()
        with self.way():
            values = self.loop.run()
        return len(self.dataset) / (time.perf_counter() - start), values.get('mIoU')

    @torch.no_grad()
    def labels(self, index: int) -> Tensor:
        """Label one photo."""
        batch = {key: [value] for key, value in self.dataset[index].items()}
        with self.way():
            return self.model.test_step(batch)[0].pred_sem_seg.cpu()


def read_again(results: dict[str, Any]) -> dict[str, Any]:
    """Cut the crop for a class weight from the file once more, as the original does."""
    if size := results['prior_crop_size']:
        results['prior_crop'] = crop_for_prior(read_photo(results['img_path']), size)
    return results


def _agreement(fast: Test, plain: Test, most: int = 16) -> float:
    """Return the share of pixels, of some photos, that get the same label either way."""
    same = total = 0
    for index in range(min(most, len(fast.dataset))):
        equal = fast.labels(index) == plain.labels(index)
        same, total = same + int(equal.sum()), total + equal.numel()
    return same / total


@contextmanager
def plain_pytorch(model: nn.Module) -> Iterator[None]:
    """Use PyTorch's layers, channels first, written-out attention, and no kept memory."""
    channels_last = next(model.parameters()).device.type != 'cpu'
    keep_freed_memory(False)
    try:
        if channels_last:
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        with kernels.plain(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        keep_freed_memory()
        if channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def plain_labels(model: Any, logits: Tensor, size: tuple[int, int], image: Tensor) -> Tensor:
    """Label as `Segmentor.labels`, by two whole resizings: (Q, h, w), (3, h', w') -> (H, W)."""
    stride = None if model.resize_twice else model.score_stride
    height, width = image.shape[1:]
    padded = [cells * stride for cells in logits.shape[1:]] if stride else (height, width)
    scores = F.interpolate(logits[None], size=padded, mode='bilinear', align_corners=False)
    scores = scores[:, :, :height, :width]
    scores = F.interpolate(scores, size=size, mode='bilinear', align_corners=False)
    return model.scoring.by_class(scores.softmax(dim=1)).argmax(dim=1)[0]


class Training:
    """Steps of a training as tools/train.py runs them, or by plain PyTorch.

    The plain way has an optimizer that goes tensor by tensor, and reads the losses in every step.
    """

    unit = 'iterations/s'

    def __init__(self, runner: SegRunner, way: str) -> None:
        self.runner, self.model, self.plain = runner, runner.model.train(), way == BASELINE
        settings = dict(runner.cfg.optim_wrapper)
        if self.plain:
            settings['optimizer'] = dict(settings['optimizer'], foreach=False, fused=False)
        self.wrapper = runner.build_optim_wrapper(settings)
        self.loader = runner.build_dataloader(runner.cfg.train_dataloader)
        self.batches = iter(self.loader)

    @property
    def described(self) -> dict[str, Any]:
        optimizer = type(self.wrapper).__name__
        return dict(what='train', optimizer=optimizer, batch=self.loader.batch_size)

    @contextmanager
    def way(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.plain:
                stack.enter_context(plain_pytorch(self.model))
            yield

    def step(self, batch: Any) -> None:
        """Take one step."""
        losses = self.model.train_step(dict(batch, step=1), self.wrapper)
        for value in losses.values() if self.plain else ():
            value.item()

    def split(self) -> dict[str, float]:
        """Return milliseconds of each stage of one step and of the rest, all in this process."""
        clock, data = Clock(self.runner.cfg.device), self.loader.dataset
        stages = dict(loss='loss', teacher_scores='teacher', pseudo_labels='teacher')
        steps = dict(backward='backward', step='step', zero_grad='step')
        with (
            self.way(),
            clock.methods(self.model, **stages),
            clock.methods(self.wrapper, **steps),
            clock.stage('all'),
        ):
            with clock.stage('data'):
                rows = [data[i % len(data)] for i in range(self.loader.batch_size)]
                batch = self.loader.collate_fn(rows)
            self.step(batch)
        clock.seconds['student forward'] = clock.seconds['loss'] - clock.seconds['teacher']
        return clock.milliseconds(TRAIN_STAGES, 1)

    def end_to_end(self, number: int) -> tuple[float, None]:
        """Return iterations per second, batches read by the workers meanwhile."""
        clock = Clock(self.runner.cfg.device)
        with self.way(), clock.stage('all'):
            for _ in range(number):
                self.step(next(self.batches))
        return number / clock.seconds['all'], None


def _runner(path: str, args: Namespace, folder: Path, size: int | None) -> SegRunner:
    """Build the runner of a config's test, or of its training without validation."""
    config = load_config(path, args.cfg_options)
    if args.random_weights:
        forget_weights(config)
    if args.train and args.engines:
        raise UserError('--engines are of tests: leave out --train')
    config.work_dir = str(folder)
    config.device = init_processes('none', device_of(args.device))
    config.update(custom_hooks=[], visualizer=dict(type='Visualizer'), default_hooks=DEFAULT_HOOKS)
    if args.train and config.model.type != 'MaskClipPlus':
        raise UserError(f'{path} trains no student (model.type MaskClipPlus): leave out --train')
    loader = config.train_dataloader if args.train else config.test_dataloader
    kept = {key: loader.dataset[key] for key in DATASET_KEYS if key in loader.dataset}
    if args.synthetic:
        _draw_photos(folder, args.number, len(load_vocabulary(config.vocabulary)))
        dirs = dict(img_dir='photos', ann_dir='masks', split='list.txt')
        loader.dataset = ConfigDict(type='SegDataset', data_root=str(folder), **dirs, **kept)
    loader.batch_size = args.batch or loader.batch_size
    for step in loader.dataset.pipeline if size else ():
        if 'scale' in step:
            step.scale = tuple(round(side * size / min(step.scale)) for side in step.scale)
        elif 'size' in step:
            step.size = size
    if args.train:
        config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
        config.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
    else:
        loader.dataset.indices = args.number
    return SegRunner.from_cfg(config)


def _draw_photos(
    folder: Path, number: int, num_classes: int, size: tuple[int, int] = (500, 375)
) -> None:
    """Write smooth noise as JPEG, as costly to decode as photos, every other upright; PNG masks."""
    rng = np.random.default_rng(0)
    for part in ('photos', 'masks'):
        (folder / part).mkdir(exist_ok=True)
    names = [f'{i:05d}' for i in range(number)]
    (folder / 'list.txt').write_text('\n'.join(names))
    for i, name in enumerate(names):
        width, height = size if i % 2 == 0 else size[::-1]
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
        photo = coarse.resize((width, height), Image.Resampling.BICUBIC)
        photo.save(folder / 'photos' / f'{name}.jpg', quality=92)
        dtype = np.uint8 if num_classes < 256 else np.uint16
        labels = rng.integers(0, num_classes, (6, 8)).astype(dtype)
        tall, wide = math.ceil(height / 6), math.ceil(width / 8)
        labels = labels.repeat(tall, 0).repeat(wide, 1)[:height, :width]
        Image.fromarray(labels).save(folder / 'masks' / f'{name}.png')
