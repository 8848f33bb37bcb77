"""Show the progress of long work: a bar on a terminal, plain lines in a log."""

import sys
import time
from datetime import timedelta
from typing import Any

EVERY = 10.0  # seconds between two lines where stderr is no terminal


class Progress:
    """Count items of work; use it as a context manager and call `update(n)`.

    Args:
        total: number of items.
        label: the work, e.g. 'test'.
        unit: one item, e.g. 'photo'.
        quiet: show nothing (every process but the first).
    """

    def __init__(self, total: int, label: str, *, unit: str = 'it', quiet: bool = False) -> None:
        self.total, self.label, self.unit, self.quiet = total, label, unit, quiet
        self.units = unit if unit.isupper() else f'{unit}s'
        self.done, self.skipped, self.note = 0, 0, ''
        self.started = self.shown = time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty() and not quiet:
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc=label, unit=unit, dynamic_ncols=True)

    def skip(self, n: int) -> None:
        """Count n items as done before the start."""
        self.done = self.skipped = n
        if self.bar is not None:
            self.bar.initial = self.bar.n = n

    def update(self, n: int = 1) -> None:
        """Count n more items."""
        self.done = min(self.done + n, self.total)
        if self.bar is not None:
            self.bar.set_postfix_str(self.note, refresh=False)
            self.bar.update(self.done - self.bar.n)
        elif time.monotonic() - self.shown >= EVERY:
            self._print_line()

    def _print_line(self) -> None:
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

    def close(self) -> None:
        """Show the final count."""
        if self.bar is not None:
            self.bar.close()
        elif self.done:
            self._print_line()

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
