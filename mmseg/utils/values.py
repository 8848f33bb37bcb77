"""Checks of settings: a value that means nothing is refused with the range that it may have."""

import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from mmseg.errors import UserError

from .suggest import nearest


def require_number(
    name: str, value: Any, least=None, most=None, *, above=None, below=None, whole=False
):
    """Refuse a value that is no number in a range, or one that no float holds (NaN, 10**400).

    Args:
        name: the setting, for the message.
        least, most: the range, both ends in it; None for no end.
        above, below: the value must be greater, or less, than this number.
        whole: only whole numbers.

    Raises:
        UserError: the value is refused.
    """
    kind = Integral if whole else Real
    good = isinstance(value, kind) and not isinstance(value, bool)
    good = good and abs(value) <= sys.float_info.max
    good = good and (least is None or value >= least) and (most is None or value <= most)
    good = good and (above is None or value > above) and (below is None or value < below)
    if not good:
        ends = (('above', above), ('from', least), ('to', most), ('below', below))
        bounds = ''.join(f' {word} {end}' for word, end in ends if end is not None)
        raise UserError(f'{name} is a {"whole " * whole}number{bounds}, not {value!r}')


def require_pair(name: str, value: Any, *, ordered=False, **options):
    """Refuse a value that is not two numbers, each with the options of `require_number`.

    Args:
        ordered: the first may not be larger than the second.

    Raises:
        UserError: the value is refused.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise UserError(f'{name} is two numbers, not {value!r}')
    for number in value:
        require_number(f'each of {name}', number, **options)
    if ordered and value[0] > value[1]:
        raise UserError(f'{name} is (low, high), not {value!r}')


def require_choice(name: str, value: Any, choices: Sequence):
    """Refuse a value that is none of the choices; 1 is not True.

    Raises:
        UserError: the value is refused.
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        *most, last = map(repr, choices)
        known = f'{", ".join(most)} or {last}' if most else last
        raise UserError(f'{name} is {known}, not {value!r}{nearest(value, choices)}')
