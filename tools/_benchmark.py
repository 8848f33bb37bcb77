"""Measure a test or a training for benchmark.py, as the tools run it and by plain PyTorch."""

import math
import os
import platform
import statistics
import tempfile
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
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
from mmseg.apis.test import DEFAULT_HOOKS
from mmseg.datasets.reading import crop_for_prior, read_photo
from mmseg.engine import (
    SegRunner,
    allow_tf32,
    autocast_of,
    device_of,
    init_processes,
    keep_freed_memory,
    load_config,
)
from mmseg.errors import UserError
from mmseg.evaluation import confusion_matrix, scores_of
from mmseg.utils.tensors import peak_memory
from mmseg.vocabularies import load_vocabulary

TEST_STAGES = ('decode', 'transform', 'copy', 'network', 'upsample + argmax', 'metric')
TRAIN_STAGES = ('data', 'teacher', 'student forward', 'backward', 'step')
DATASET_KEYS = ('pipeline', 'vocabulary', 'prior_crop_size', 'unseen', 'seed')


def machine() -> dict[str, Any]:
    """Describe this machine."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else 0
    cpu = platform.processor()
    with suppress(OSError, StopIteration):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        cpu = next(x.partition(':')[2].strip() for x in lines if x.startswith('model name'))
    return dict(
        platform=f'{platform.system()} {platform.machine()}',
        cpu=cpu,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        accelerator=torch.get_device_module(accelerator).get_device_name() if accelerator else None,
        torch=torch.__version__,
        date=time.strftime('%Y-%m-%d'),
    )


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


def spread(values: Sequence[float]) -> dict[str, float]:
    return dict(median=statistics.median(values), low=min(values), high=max(values))


def measure(path: str, args: Namespace, size: int | None) -> list[dict[str, Any]]:
    """Measure one config at one size; return a record of the fast way, and one of the baseline."""
    with tempfile.TemporaryDirectory() as folder, settings_of(load_config(path)):
        runner = _runner(path, args, Path(folder), size)
        variants = [Training, PlainTraining] if args.train else [Test, PlainTest]
        variants = variants[: 1 + args.baseline]
        memories, values = [], []
        for variant in variants:  # one at a time: two optimizers would hold twice the state
            run = variant(runner, args)
            run.split(1)  # warm up
            _restart_peaks(runner.cfg.device)
            values.append(run.end_to_end(1)[1])
            memories.append(_peaks(runner.cfg.device))
        runs = [variant(runner, args) for variant in variants]
        splits: list[list[dict[str, float]]] = [[] for _ in runs]
        rates: list[list[float]] = [[] for _ in runs]
        for _ in range(args.repeats):  # in turns: a busy machine slows both
            for i, run in enumerate(runs):
                splits[i].append(run.split(args.number))
                rates[i].append(run.end_to_end(args.number)[0])
        records = []
        for i, run in enumerate(runs):
            record = dict(config=str(path), size=size, device=runner.cfg.device, **run.described)
            record |= dict(repeats=args.repeats, rate=dict(unit=run.unit, **spread(rates[i])))
            record['split_ms'] = {k: spread([row[k] for row in splits[i]]) for k in splits[i][0]}
            if not args.train:
                beside = [sum(row.values()) - row['network'] for row in splits[i]]
                record |= dict(beside_network_ms=spread(beside), mIoU=values[i])
            records.append(record | dict(memory=memories[i]))
        if args.baseline and not args.train:
            records[0]['labels_as_baseline'] = _agreement(*runs)
        return records


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
    """A test as tools/test.py runs it."""

    way, unit = 'fast', 'photos/s'

    def __init__(self, runner: SegRunner, args: Namespace) -> None:
        self.runner, self.model, self.loop = runner, runner.model, runner.test_loop
        self.dataset, self.order = self.loop.dataloader.dataset, list(self.loop.dataloader.sampler)
        self.batch, self.precision = self.loop.dataloader.batch_size, args.precision
        self.num_classes = len(self.dataset.vocabulary)

    @property
    def described(self) -> dict[str, Any]:
        counts = dict(batch=self.batch, classes=self.num_classes, photos=len(self.dataset))
        return dict(what='test', way=self.way, precision=self.precision, **counts)

    @contextmanager
    def context(self) -> Iterator[None]:
        allow_tf32(self.precision == 'tf32')
        with torch.no_grad(), autocast_of(self.precision, self.runner.cfg.device):
            yield

    def split(self, number: int) -> dict[str, float]:
        """Return milliseconds per photo of each stage, all stages in this process."""
        clock, order = Clock(self.runner.cfg.device), self.order[:number]
        with self.context():
            for first in range(0, len(order), self.batch):
                self.label(self.load(order[first : first + self.batch], clock), clock)
        return clock.milliseconds(TEST_STAGES, len(order))

    def load(self, indices: Sequence[int], clock: Clock) -> dict[str, Any]:
        """Read photos as a batch on the device."""
        load, *others = self.dataset.pipeline.transforms
        batch = []
        for index in indices:
            with clock.stage('decode'):
                results = load(self.dataset.get_data_info(index))
            with clock.stage('transform'):
                for transform in others:
                    results = transform(results)
            batch.append(results)
        with clock.stage('copy'):
            rows = {key: [row[key] for row in batch] for key in ('inputs', 'data_samples')}
            return self.model.data_preprocessor(rows)

    def label(self, data: dict[str, Any], clock: Clock) -> tuple[list[Tensor], Tensor]:
        """Return the labels of a batch, and its confusion matrix."""
        images, samples = data['inputs'], data['data_samples']
        with clock.stage('network'):
            logits = self.model.query_logits_of_samples(images, samples)
        with clock.stage('upsample + argmax'):
            rows = zip(logits, samples, images)
            labels = [self.model.labels(x, sample.ori_shape, image) for x, sample, image in rows]
        truth = [_truth(*pair) for pair in zip(samples, labels)]
        with clock.stage('metric'):
            pred, true = (torch.cat([x.flatten() for x in maps]) for maps in (labels, truth))
            return labels, confusion_matrix(pred, true, self.num_classes)

    def end_to_end(self, number: int) -> tuple[float, float | None]:
        """Return photos per second and mIoU of the test loop, with the start of its workers."""
        start = time.perf_counter()
        values = self.loop.run()
        return len(self.dataset) / (time.perf_counter() - start), values.get('mIoU')


class PlainTest(Test):
    """A test of the same weights as mmsegmentation 0.x runs it: one photo at a time, in fp32.

    Scores are resized to the padded input and again to the photo, all classes at once; then softmax
    and arg-max.

    Raises:
        UserError: windows, post-processing or thresholds, which it does not do.
    """

    way = 'baseline'

    def __init__(self, runner: SegRunner, args: Namespace) -> None:
        super().__init__(runner, args)
        require_scores_alone(self.model, 'the baseline (--baseline)')
        self.order, self.batch, self.precision = sorted(self.order), 1, 'fp32'

    @contextmanager
    def context(self) -> Iterator[None]:
        with super().context(), plain_pytorch(self.model):
            yield

    def label(self, data: dict[str, Any], clock: Clock) -> tuple[list[Tensor], Tensor]:
        (image,), (sample,) = data['inputs'], data['data_samples']
        with clock.stage('decode'):
            crop = self._prior_crop(sample)
        with clock.stage('network'):
            scores = self.model.batch_logits(image[None], crop)
        with clock.stage('upsample + argmax'):
            size = (image.shape[1], image.shape[2])
            labels = plain_labels(self.model, scores, size, sample.ori_shape).cpu()
        truth = _truth(sample, labels).cpu()
        with clock.stage('metric'):
            return [labels], confusion_matrix(labels, truth, self.num_classes)

    def _prior_crop(self, sample: Any) -> Tensor | None:
        """Cut the crop for a class weight from the file once more, as the original does."""
        if self.model.prior_crop != 'clip':
            return None
        photo = crop_for_prior(read_photo(sample.img_path), sample.prior_crop.shape[-1])
        crop = torch.from_numpy(photo.copy()).permute(2, 0, 1)
        return crop[None].to(sample.prior_crop.device)

    def end_to_end(self, number: int) -> tuple[float, float | None]:
        clock, total = Clock(self.runner.cfg.device), torch.zeros(())
        start = time.perf_counter()
        settings = dict(self.runner.cfg.test_dataloader, batch_size=1)
        settings['sampler'] = dict(type='DefaultSampler', shuffle=False)
        with self.context():
            for batch in self.runner.build_dataloader(settings):
                total = total + self.label(self.model.data_preprocessor(batch), clock)[1]
        value = scores_of(total).iou.nanmean().item()
        return len(self.dataset) / (time.perf_counter() - start), value


def _truth(sample: Any, labels: Tensor) -> Tensor:
    """Return the photo's mask, or without one its labels upside down."""
    return sample.gt_sem_seg if 'gt_sem_seg' in sample else torch.flip(labels, dims=(0,))


def _agreement(fast: Test, plain: Test, most: int = 16) -> float:
    """Return the share of pixels, of some photos, that get the same label either way."""
    same = total = 0
    for index in fast.order[:most]:
        clock, labels = Clock(fast.runner.cfg.device), []
        for run in (fast, plain):
            with run.context():
                labels.append(run.label(run.load([index], clock), clock)[0][0].cpu())
        same, total = same + int((labels[0] == labels[1]).sum()), total + labels[0].numel()
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
    """Steps of a training as tools/train.py runs them."""

    way, unit = 'fast', 'iterations/s'
    optimizer_options: dict[str, Any] = {}

    def __init__(self, runner: SegRunner, args: Namespace) -> None:
        self.runner, self.model, self.number = runner, runner.model.train(), args.number
        settings = dict(runner.cfg.optim_wrapper)
        settings['optimizer'] = dict(settings['optimizer'], **self.optimizer_options)
        self.wrapper = runner.build_optim_wrapper(settings)
        self.loader = runner.build_dataloader(runner.cfg.train_dataloader)
        self.batches = iter(self.loader)

    @property
    def described(self) -> dict[str, Any]:
        optimizer, batch = type(self.wrapper).__name__, self.loader.batch_size
        counts = dict(optimizer=optimizer, batch=batch, iterations=self.number)
        return dict(what='train', way=self.way, **counts)

    def context(self) -> AbstractContextManager[None]:
        return nullcontext()

    def step(self, batch: Any, clock: Clock) -> None:
        """Take one step."""
        with clock.methods(self.wrapper, backward='backward', step='step', zero_grad='step'):
            self.model.train_step(batch, self.wrapper)

    def split(self, _: int) -> dict[str, float]:
        """Return milliseconds of each stage of one step, all stages in this process."""
        clock, data = Clock(self.runner.cfg.device), self.loader.dataset
        with clock.stage('data'):
            rows = [data[i % len(data)] for i in range(self.loader.batch_size)]
            batch = self.loader.collate_fn(rows)
        stages = dict(loss='loss', teacher_scores='teacher', pseudo_labels='teacher')
        with self.context(), clock.methods(self.model, **stages):
            self.step(dict(batch, step=1), clock)
        clock.seconds['student forward'] = clock.seconds['loss'] - clock.seconds['teacher']
        return clock.milliseconds(TRAIN_STAGES, 1)

    def end_to_end(self, number: int) -> tuple[float, None]:
        """Return iterations per second, batches read by the workers meanwhile."""
        clock, device = Clock('cpu'), Clock(self.runner.cfg.device)
        device.wait()
        start = time.perf_counter()
        with self.context():
            for _ in range(number):
                self.step(dict(next(self.batches), step=1), clock)
        device.wait()
        return number / (time.perf_counter() - start), None


class PlainTraining(Training):
    """Plain PyTorch in fp32, an optimizer that goes tensor by tensor, losses read in every step."""

    way = 'baseline'
    optimizer_options = dict(foreach=False, fused=False)

    def context(self) -> AbstractContextManager[None]:
        return plain_pytorch(self.model)

    def step(self, batch: Any, clock: Clock) -> None:
        losses = self.model(**self.model.data_preprocessor(batch, True), mode='loss')
        with clock.stage('backward'):
            sum(value.mean() for name, value in losses.items() if 'loss' in name).backward()
        with clock.stage('step'):
            self.wrapper.optimizer.step()
            self.wrapper.optimizer.zero_grad(set_to_none=False)
        for value in losses.values():
            value.item()


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
    elif args.photos:
        loader.dataset = ConfigDict(type='ImageFolderDataset', data_root=args.photos, **kept)
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
        config.test_cfg = dict(type='SegTestLoop', precision=args.precision, compile=args.compile)
        if args.photos:
            config.test_evaluator = []
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
