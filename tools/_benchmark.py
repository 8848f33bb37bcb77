"""Measure a test or a training for benchmark.py, as the tools run it and by plain PyTorch."""

import math
import os
import statistics
import tempfile
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
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
    init_processes,
    keep_freed_memory,
    load_config,
)
from mmseg.errors import UserError
from mmseg.utils.tensors import peak_memory
from mmseg.vocabularies import load_vocabulary

TEST_STAGES = ('decode', 'transform', 'copy', 'network', 'upsample + argmax', 'metric')
TRAIN_STAGES = ('data', 'teacher', 'student forward', 'backward', 'step')
DATASET_KEYS = ('pipeline', 'vocabulary', 'prior_crop_size', 'unseen', 'seed')


def machine() -> dict[str, Any]:
    """Describe this machine."""
    cpu = ''
    with suppress(OSError, StopIteration):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        cpu = next(x.partition(':')[2].strip() for x in lines if x.startswith('model name'))
    counts = dict(cores=os.cpu_count(), threads=torch.get_num_threads())
    return dict(environment(device_of()), cpu=cpu, date=time.strftime('%Y-%m-%d'), **counts)


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
        return {stage: 1000 * self.seconds[stage] / count for stage in stages}


def measure(path: str, args: Namespace, size: int | None) -> list[dict[str, Any]]:
    """Measure one config at one size; return a record of the fast way, and one of the baseline."""
    with tempfile.TemporaryDirectory() as folder, settings_of(load_config(path)):
        runner = _runner(path, args, Path(folder), size)
        device = runner.cfg.device
        ways = [(Training if args.train else Test, plain) for plain in (False, True)]
        ways = ways[: 1 + args.baseline]
        memories, values = [], []
        for way, plain in ways:  # one at a time: two optimizers would hold twice the state
            run = way(runner, plain)
            run.split()  # warm up
            _restart_peaks(device)
            values.append(run.end_to_end(1)[1])
            memories.append(_peaks(device))
        runs = [way(runner, plain) for way, plain in ways]
        splits: list[list[dict[str, float]]] = [[] for _ in runs]
        rates: list[list[float]] = [[] for _ in runs]
        for _ in range(args.repeats):  # in turns: a busy machine slows both
            for i, run in enumerate(runs):
                splits[i].append(run.split())
                rates[i].append(run.end_to_end(args.number)[0])
        records = []
        for i, run in enumerate(runs):
            way_name = 'baseline' if run.plain else 'fast'
            record = dict(config=str(path), size=size, device=device, way=way_name, **run.described)
            record |= dict(repeats=args.repeats, rate=dict(unit=run.unit, **spread(rates[i])))
            record['split_ms'] = {k: spread([row[k] for row in splits[i]]) for k in splits[i][0]}
            if not args.train:
                beside = [sum(row.values()) - row['network'] for row in splits[i]]
                record |= dict(beside_network_ms=spread(beside), mIoU=values[i])
            records.append(record | dict(memory=memories[i]))
        if args.baseline and not args.train:
            records[0]['labels_as_baseline'] = _agreement(*runs)
        return records


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

    Raises:
        UserError: windows, post-processing or thresholds, which the plain way does not do.
    """

    unit = 'photos/s'

    def __init__(self, runner: SegRunner, plain: bool) -> None:
        self.runner, self.model, self.plain = runner, runner.model, plain
        loader = runner.cfg.test_dataloader.to_dict()
        self.precision = runner.cfg.test_cfg.get('precision', 'fp32')
        if plain:
            require_scores_alone(self.model, 'the baseline (--baseline)')
            load, *others = loader['dataset']['pipeline']
            loader['dataset']['pipeline'] = [load, read_again, *others]
            loader |= dict(batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
            self.precision = 'fp32'
        self.loop = self._loop(loader)
        self.local = self._loop(loader | dict(num_workers=0, persistent_workers=False))
        self.dataset = self.local.dataloader.dataset

    def _loop(self, loader: dict[str, Any]) -> SegTestLoop:
        evaluator = self.runner.cfg.test_evaluator
        engine = 'torch' if self.plain else self.runner.cfg.test_cfg.get('engine', 'torch')
        options = dict(engine=engine, precision=self.precision)
        return SegTestLoop(self.runner, loader, evaluator, **options)

    @property
    def described(self) -> dict[str, Any]:
        counts = dict(classes=len(self.dataset.vocabulary), photos=len(self.dataset))
        batch = self.loop.dataloader.batch_size
        kind = dict(engine=self.loop.engine.name, precision=self.precision)
        return dict(what='test', **kind, batch=batch, **counts)

    @contextmanager
    def way(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.plain:
                stack.enter_context(plain_pytorch(self.model))
                stack.enter_context(patch.object(self.model, 'labels', self.plain_labels))
            yield

    def plain_labels(self, logits: Tensor, size: tuple[int, int], image: Tensor) -> Tensor:
        """Stand for `Segmentor.labels`."""
        return plain_labels(self.model, logits[None], tuple(image.shape[1:]), size)

    def split(self) -> dict[str, float]:
        """Return milliseconds per photo of each stage, all stages in this process."""
        clock, pipeline = Clock(self.runner.cfg.device), self.dataset.pipeline
        stages = ['decode', *['decode'] * self.plain, *['transform'] * len(pipeline.transforms)]
        timed = [clock.stage(name)(step) for name, step in zip(stages, pipeline.transforms)]
        network = {'query_logits_of_samples': 'network', 'labels': 'upsample + argmax'}
        with (
            self.way(),
            patch.object(pipeline, 'transforms', timed),
            clock.methods(self.model.data_preprocessor, forward='copy'),
            clock.methods(self.model, **network),
            clock.methods(self.local.evaluator, process='metric'),
        ):
            self.local.run()
        return clock.milliseconds(TEST_STAGES, len(self.dataset))

    def end_to_end(self, _: int) -> tuple[float, float | None]:
        """Return photos per second and mIoU of the test loop, with the start of its workers."""
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


def plain_labels(
    model: Any, scores: Tensor, input_size: tuple[int, int], photo_size: tuple[int, int]
) -> Tensor:
    """Label a photo by two whole resizings: scores (1, Q, h, w) -> labels (H, W)."""
    stride = None if model.resize_twice else model.score_stride
    padded = [cells * stride for cells in scores.shape[2:]] if stride else input_size
    scores = F.interpolate(scores, size=padded, mode='bilinear', align_corners=False)
    scores = scores[:, :, : input_size[0], : input_size[1]]
    scores = F.interpolate(scores, size=photo_size, mode='bilinear', align_corners=False)
    return model.scoring.by_class(scores.softmax(dim=1)).argmax(dim=1)[0]


class Training:
    """Steps of a training as tools/train.py runs them, or by plain PyTorch.

    The plain way has an optimizer that goes tensor by tensor, and reads the losses in every step.
    """

    unit = 'iterations/s'

    def __init__(self, runner: SegRunner, plain: bool) -> None:
        self.runner, self.model, self.plain = runner, runner.model.train(), plain
        settings = dict(runner.cfg.optim_wrapper)
        if plain:
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
        """Return milliseconds of each stage of one step, all stages in this process."""
        clock, data = Clock(self.runner.cfg.device), self.loader.dataset
        with clock.stage('data'):
            rows = [data[i % len(data)] for i in range(self.loader.batch_size)]
            batch = self.loader.collate_fn(rows)
        stages = dict(loss='loss', teacher_scores='teacher', pseudo_labels='teacher')
        steps = dict(backward='backward', step='step', zero_grad='step')
        with self.way(), clock.methods(self.model, **stages), clock.methods(self.wrapper, **steps):
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
        _forget_weights(config)
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


def _forget_weights(config: Config) -> None:
    """Use random towers, students from scratch, and text by one short sentence a class."""
    for model in filter(None, (config.model, config.model.get('teacher'))):
        parts, texts = [model.backbone], [model.decode_head] if model.type == 'MaskClip' else []
        weight = model.get('class_weight')
        if weight:
            parts += filter(None, [weight.get('prior_encoder')])
            texts.append(weight)
        for part in parts:
            part.pretrained = 'random' if part.type == 'CLIPDenseExtractor' else False
        for part in texts:
            part.text = dict(templates='name')


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
