"""The test of a config, the fast way and the plain way in turns."""

from _benchmark_clock import Clock, peak_of
from _benchmark_fast_test import Fast
from _benchmark_plain_test import Plain
from _benchmark_setup import test_runner


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
