"""The training of a student, end to end and part by part, the fast way and the plain way."""

import time
from contextlib import nullcontext

import torch
from _benchmark_clock import Clock, peak_of, spread, spreads
from _benchmark_plain import plain_step, plain_training
from _benchmark_setup import train_runner

STAGES = ('data', 'teacher', 'student forward', 'backward', 'step')
SLOW_OPTIMIZER = dict(foreach=False, fused=False)


def benchmark_train(path, args, folder, size=None):
    """One student's config -> a record of the fast path and, if asked, one of the baseline."""
    runner = train_runner(path, args, folder, size)
    runner.model.train()
    kinds = [Fast] + ([Plain] if args.baseline else [])
    memories = []
    for kind in kinds:  # each by itself: two optimizers hold twice the state
        memories.append({})
        with peak_of(runner.cfg.device, memories[-1]):
            kind(runner).rate(1)
    ways = [kind(runner) for kind in kinds]
    rows = {way: [] for way in ways}
    for _ in range(args.repeats):  # in turns: what slows the machine slows both
        for way in ways:
            rows[way].append((way.split(), way.rate(args.number)))
    return [way.record(path, args, size, rows[way], memory) for way, memory in zip(ways, memories)]


class Fast:
    """What `tools/train.py` does."""

    name = 'fast'
    optimizer_options = {}

    def __init__(self, runner):
        self.runner, self.model = runner, runner.model
        settings = dict(runner.cfg.optim_wrapper)
        settings['optimizer'] = dict(settings['optimizer'], **self.optimizer_options)
        self.wrapper = runner.build_optim_wrapper(settings)
        self.loader = runner.build_dataloader(runner.cfg.train_dataloader)
        self.batches = iter(self.loader)

    def context(self):
        """-> what its steps run in"""
        return nullcontext()

    def step(self, batch, clock):
        """One step, its backward pass and the optimizer's timed"""
        with clock.methods(self.wrapper, backward='backward', step='step', zero_grad='step'):
            self.model.train_step(batch, self.wrapper)

    def split(self):
        """-> {stage: milliseconds an iteration}, reading a batch in this process included"""
        clock = Clock(self.runner.cfg.device)
        with clock.stage('data'):
            rows = [self.loader.dataset[i % len(self.loader.dataset)] for i in range(self.size)]
            batch = self.loader.collate_fn(rows)
        with (
            self.context(),
            clock.methods(self.model, loss='loss', teacher_scores='teacher'),
            clock.methods(self.model, pseudo_labels='teacher'),
        ):
            self.step(dict(batch, step=1), clock)
        clock.spent['student forward'] = clock.spent['loss'] - clock.spent['teacher']
        return clock.milliseconds(STAGES, 1)

    @property
    def size(self):
        return self.loader.batch_size

    def rate(self, iterations):
        """-> iterations a second, batches read by the workers meanwhile"""
        clock = Clock('cpu')
        device = Clock(self.runner.cfg.device)
        device.wait()
        start = time.perf_counter()
        with self.context():
            for _ in range(iterations):
                self.step(dict(next(self.batches), step=1), clock)
        device.wait()
        return iterations / (time.perf_counter() - start)

    def record(self, path, args, size, rows, memory):
        """-> what goes into the JSON"""
        splits, rates = zip(*rows)
        return dict(
            what='train',
            config=str(path),
            way=self.name,
            size=size,
            device=self.runner.cfg.device,
            optimizer=type(self.wrapper).__name__,
            batch=self.size,
            iterations=args.number,
            repeats=args.repeats,
            rate=dict(unit='iterations/s', **spread(rates)),
            split_ms=spreads(splits),
            memory=memory,
        )


class Plain(Fast):
    """fp32, full-size scores for the labels, the optimizer tensor by tensor, losses read."""

    name = 'baseline'
    optimizer_options = SLOW_OPTIMIZER

    def context(self):
        """-> plain PyTorch and plain pseudo-labels"""
        return plain_training(self.model)

    def step(self, batch, clock):
        """One step of `_benchmark_plain`"""
        with torch.enable_grad():
            plain_step(self.model, batch, self.wrapper.optimizer, clock)
