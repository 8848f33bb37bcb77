"""One way to show that long work is alive: a bar on a terminal, plain lines in a log."""

import sys
import time
from datetime import timedelta

from tqdm import tqdm


class Progress:
    """Count `total` items of work; use as a context manager and call `update(n)`.

    Args:
        total: how many items there are.
        label: what is being done, e.g. 'test'.
        unit: what one item is, e.g. 'photo'.
        every: seconds between two lines where the output is no terminal.
        quiet: show nothing (every process but the first).
    """

    def __init__(self, total, label, *, unit='it', every=10.0, quiet=False):
        self.total, self.label, self.unit = total, label, unit
        self.every, self.quiet = every, quiet
        self.units = unit if unit.isupper() else f'{unit}s'
        self.done, self.skipped, self.note = 0, 0, ''
        self.started = self.shown = time.monotonic()
        self.bar = None
        if sys.stderr.isatty() and not quiet:
            self.bar = tqdm(total=total, desc=label, unit=unit, dynamic_ncols=True)

    def skip(self, n):
        """Count n items as done before the clock started."""
        self.done = self.skipped = n
        if self.bar is not None:
            self.bar.initial = self.bar.n = n

    def update(self, n=1):
        self.done = min(self.done + n, self.total)
        if self.bar is not None:
            self.bar.set_postfix_str(self.note, refresh=False)
            self.bar.update(self.done - self.bar.n)
        elif time.monotonic() - self.shown >= self.every:
            self._line()

    def _line(self):
        self.shown = time.monotonic()
        elapsed = max(self.shown - self.started, 1e-9)
        rate = (self.done - self.skipped) / elapsed
        left = timedelta(seconds=round((self.total - self.done) / rate)) if rate else '?'
        if not self.quiet:
            print(
                f'{self.label}: {self.done}/{self.total} {self.units}, '
                f'{rate:.2f} {self.units}/s, {left} left{self.note and f", {self.note}"}',
                file=sys.stderr,
                flush=True,
            )

    def close(self):
        if self.bar is not None:
            self.bar.close()
        elif self.done:
            self._line()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
