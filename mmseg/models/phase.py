"""Phases of a training."""

from mmseg.errors import UserError

# (first, last) step, counted from 1; last -1 for no end, first -1 for never
Phase = tuple[int, int]


def require_phase(name: str, phase: Phase) -> None:
    """Check that a phase is (first, last) as `within` reads it.

    Raises:
        UserError: it is not.
    """
    first, last = phase
    if min(phase) < -1 or first == 0 or (first > 0 and -1 < last < first):
        raise UserError(
            f'{name} is (first, last) step, counted from 1, first -1 for never and last -1 for no '
            f'end; not {phase!r}'
        )


def within(step: int, phase: Phase) -> bool:
    """Tell whether a step is in a phase; (1, -1) is always, (-1, -1) never."""
    first, last = phase
    return first != -1 and step >= first and (last == -1 or step <= last)
