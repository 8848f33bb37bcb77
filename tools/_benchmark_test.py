"""The test of a config, end to end and stage by stage, the fast way and the plain way."""

import time
from contextlib import ExitStack

import numpy as np
import torch
from _benchmark_clock import Clock, peak_of, spread, spreads
from _benchmark_plain import plain_confusion, plain_iou, plain_labels, plain_pytorch
from _benchmark_setup import test_runner

from mmseg.datasets.transforms.loading import clip_view, read_photo
from mmseg.engine import autocast_of
from mmseg.evaluation import confusion_matrix
from mmseg.structures import ignore_label

STAGES = ('decode', 'transform', 'copy', 'network', 'upsample + argmax', 'metric')


def benchmark_test(path, args, folder, size=None):
    """One config -> a record of the fast path and, if asked, one of the baseline."""
    runner = test_runner(path, args, folder, size)
    ways = [Fast(runner, args)] + ([Plain(runner, args)] if args.baseline else [])
    found = {way: dict(splits=[], rates=[], memory={}) for way in ways}
    for way in ways:
        way.split(2)  # warm up
        with peak_of(runner.cfg.device, found[way]['memory']):
            found[way]['mIoU'] = way.end_to_end()[1]
    for _ in range(args.repeats):  # in turns: what slows the machine slows both
        for way in ways:
            found[way]['splits'].append(way.split(args.number))
            found[way]['rates'].append(way.end_to_end()[0])
    records = [way.record(path, args, size, **found[way]) for way in ways]
    if args.baseline:
        records[0]['labels_as_baseline'] = agreement(*ways)
    return records


class Fast:
    """What `tools/test.py` does."""

    name = 'fast'

    def __init__(self, runner, args):
        self.runner, self.model = runner, runner.model
        self.loop = runner.test_loop  # prepares the model too
        self.dataset = self.loop.dataloader.dataset
        self.order = list(self.loop.dataloader.sampler)
        self.batch = self.loop.dataloader.batch_size
        self.precision = args.precision
        self.num_classes = len(self.dataset.vocabulary)

    def context(self):
        """-> what its stages run in"""
        stack = ExitStack()
        stack.enter_context(torch.no_grad())
        stack.enter_context(autocast_of(self.precision, self.runner.cfg.device))
        return stack

    def split(self, number):
        """-> {stage: milliseconds a photo}, the stages one after the other in this process"""
        clock, order = Clock(self.runner.cfg.device), self.order[:number]
        with self.context():
            for first in range(0, len(order), self.batch):
                self.stages(order[first : first + self.batch], clock)
        return clock.milliseconds(STAGES, len(order))

    def stages(self, indices, clock):
        """Photos' indices -> [labels], through every stage of one batch"""
        data = self.load(indices, clock)
        images, samples = data['inputs'], data['data_samples']
        with clock.stage('network'):
            scores = self.model.scores_of_any_size(images, samples)
        with clock.stage('upsample + argmax'):
            labels = [
                self.model.labels(score, sample.ori_shape, tuple(image.shape[1:]))
                for score, sample, image in zip(scores, samples, images)
            ]
        truth = [truth_of(*pair) for pair in zip(samples, labels)]
        with clock.stage('metric'):
            pred, true = (torch.cat([x.flatten() for x in maps]) for maps in (labels, truth))
            ignore = ignore_label(self.num_classes)
            confusion_matrix(pred, true, self.num_classes, ignore_index=ignore)
        return labels

    def load(self, indices, clock):
        """Photos' indices -> a batch on the device"""
        load, *others = self.dataset.pipeline.transforms
        batch = []
        for index in indices:
            with clock.stage('decode'):
                results = load(self.dataset.get_data_info(index))
            with clock.stage('transform'):
                for transform in others:
                    results = transform(results)
            batch.append(results)
        keys = ('inputs', 'data_samples')
        with clock.stage('copy'):
            return self.model.data_preprocessor({k: [row[k] for row in batch] for k in keys})

    def end_to_end(self):
        """-> (photos a second, mIoU or None) of the test's own loop, its workers' start included"""
        start = time.perf_counter()
        values = self.loop.run()
        return len(self.dataset) / (time.perf_counter() - start), values.get('mIoU')

    def record(self, path, args, size, *, splits, rates, memory, mIoU):
        """-> what goes into the JSON"""
        beside = [sum(split.values()) - split['network'] for split in splits]
        return dict(
            what='test',
            config=str(path),
            way=self.name,
            size=size,
            device=self.runner.cfg.device,
            precision=self.precision,
            batch=self.batch,
            classes=self.num_classes,
            photos=len(self.dataset),
            repeats=args.repeats,
            rate=dict(unit='photos/s', **spread(rates)),
            split_ms=spreads(splits),
            beside_network_ms=spread(beside),
            memory=memory,
            mIoU=mIoU,
        )


class Plain(Fast):
    """The same weights by `_benchmark_plain`: batch 1, in the order of the list."""

    name = 'baseline'

    def __init__(self, runner, args):
        super().__init__(runner, args)
        self.order, self.batch, self.precision = sorted(self.order), 1, 'fp32'

    def context(self):
        """-> fp32 and plain PyTorch"""
        stack = super().context()
        stack.enter_context(plain_pytorch())
        return stack

    def stages(self, indices, clock):
        """One photo's index -> [labels]"""
        data = self.load(indices, clock)
        (labels,), _ = self.measure(data, clock)
        return [torch.from_numpy(labels)]

    def measure(self, data, clock):
        """A batch of one -> ([labels], (3, C) areas)"""
        (image,), (sample,) = data['inputs'], data['data_samples']
        with clock.stage('decode'):
            view = self.view(sample)
        with clock.stage('network'):
            scores = self.model.scores(image[None], view)
        with clock.stage('upsample + argmax'):
            labels = plain_labels(self.model, scores, tuple(image.shape[1:]), sample.ori_shape)
        truth = truth_of(sample, labels)
        truth = truth.cpu().numpy() if isinstance(truth, torch.Tensor) else truth
        with clock.stage('metric'):
            ignore = ignore_label(self.num_classes)
            areas = plain_confusion(labels, truth, self.num_classes, ignore)
        return [labels], areas

    def view(self, sample):
        """CLIP's view for a class weight, from the file once more, as the original reads it"""
        if self.model.weigher_view != 'clip':
            return None
        photo = clip_view(read_photo(sample.img_path), sample.view.shape[-1])
        return torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].to(sample.view.device)

    def end_to_end(self):
        """-> (photos a second, mIoU)"""
        clock, areas = Clock(self.runner.cfg.device), 0
        start = time.perf_counter()
        settings = dict(self.runner.cfg.test_dataloader, batch_size=1)
        settings['sampler'] = dict(type='DefaultSampler', shuffle=False)
        with self.context():
            for batch in self.runner.build_dataloader(settings):
                areas = areas + self.measure(self.model.data_preprocessor(batch), clock)[1]
        value = plain_iou(np.asarray(areas))
        return len(self.dataset) / (time.perf_counter() - start), value


def truth_of(sample, labels):
    """The photo's mask, or its labels upside down where there is none"""
    if 'gt_sem_seg' in sample:
        return sample.gt_sem_seg
    return labels[::-1] if isinstance(labels, np.ndarray) else torch.flip(labels, dims=(0,))


def agreement(fast, plain, most=16):
    """-> the share of pixels, of some photos, that get the same label either way"""
    same = total = 0
    for index in fast.order[:most]:
        clock = Clock(fast.runner.cfg.device)
        (a,), (b,) = (_labels(way, index, clock) for way in (fast, plain))
        same, total = same + int((a.cpu() == b).sum()), total + b.numel()
    return same / total


def _labels(way, index, clock):
    with way.context():
        return way.stages([index], clock)
