"""Settings that would mean nothing are refused where they arrive, with the range that they have."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from mmseg.errors import UserError

from .suggest import nearest


def require_number(
    name: str, value: Any, least=None, most=None, *, above=None, below=None, whole=False
):
    """
    Args:
        least, most: the range, both ends in it; None for no end.
        above: the range begins behind this number.
        whole: only whole numbers.
        below: the value must be less than this number.

    Raises:
        UserError: no finite number in the range.
    """
    kind = Integral if whole else Real
    good = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    good = good and (least is None or value >= least) and (most is None or value <= most)
    good = good and (above is None or value > above) and (below is None or value < below)
    if not good:
        ends = (('above', above), ('from', least), ('to', most), ('below', below))
        bounds = ''.join(f' {word} {end}' for word, end in ends if end is not None)
        raise UserError(f'{name} is a {"whole " * whole}number{bounds}, not {value!r}')


def require_pair(name: str, value: Any, *, ordered=False, **options):
    """
    Raises:
        UserError: not two numbers as `require_number` wants them; or `ordered`, and the first is
            larger.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise UserError(f'{name} is two numbers, not {value!r}')
    for number in value:
        require_number(f'each of {name}', number, **options)
    if ordered and value[0] > value[1]:
        raise UserError(f'{name} is (low, high), not {value!r}')


def require_choice(name: str, value: Any, choices: Sequence):
    """
    Raises:
        UserError: none of the choices.
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        *most, last = map(repr, choices)
        known = f'{", ".join(most)} or {last}'
        raise UserError(f'{name} is {known}, not {value!r}{nearest(value, choices)}')
