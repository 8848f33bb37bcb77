"""What `tools/test.py` does with a config, stage by stage and end to end."""

import time
from contextlib import ExitStack

import numpy as np
import torch
from _benchmark_clock import Clock, spread, spreads

from mmseg.engine import allow_tf32, autocast_of
from mmseg.evaluation import confusion_matrix

STAGES = ('decode', 'transform', 'copy', 'network', 'upsample + argmax', 'metric')


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
        allow_tf32(self.precision == 'tf32')
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
            found = self.model.query_logits_of_samples(images, samples)
        with clock.stage('upsample + argmax'):
            labels = [
                self.model.labels(maps, sample.ori_shape, image)
                for maps, sample, image in zip(found, samples, images)
            ]
        truth = [truth_of(*pair) for pair in zip(samples, labels)]
        with clock.stage('metric'):
            pred, true = (torch.cat([x.flatten() for x in maps]) for maps in (labels, truth))
            confusion_matrix(pred, true, self.num_classes)
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


def truth_of(sample, labels):
    """The photo's mask, or its labels upside down where there is none"""
    if 'gt_sem_seg' in sample:
        return sample.gt_sem_seg
    return labels[::-1] if isinstance(labels, np.ndarray) else torch.flip(labels, dims=(0,))
