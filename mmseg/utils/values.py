"""Settings checked against annotations: `tau: Positive`, `size: Count`, `scale: tuple[int, int]`.

`validated` checks the arguments of a call, `require_setting` one value under any name. Both read
annotations with pydantic, in its strict mode: '1' and True are no numbers, 1.5 is no whole one.
"""

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Interval

from mmseg.errors import UserError

from .suggest import nearest

Fraction = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Settings = Mapping[str, Any]  # a dict in a config
F = TypeVar('F', bound=Callable[..., Any])


def require_setting(name: str, value: Any, annotation: Any) -> None:
    """Refuse a value that does not fit an annotation.

    Lists and tuples stand for each other, as in configs.

    Args:
        name: the setting's full path, for the message.
        annotation: any type that pydantic knows; other classes are checked by isinstance.

    Raises:
        UserError: the path, what the value must be, and what it is.
    """
    from pydantic import ValidationError

    adapter, errors = _adapter(annotation), None
    for form in (value, _with_tuples(value)):
        try:
            adapter.validate_python(form)
            return
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False)
    words = dict.fromkeys(_requirement(error['msg']) for error in errors or ())
    raise UserError(f'{name} must be {" or ".join(words)}, not {value!r}')


def validated(function: F) -> F:
    """Decorate a function or an `__init__`: check its arguments against their annotations.

    Raises:
        UserError: on a call, see `require_setting`.
    """
    parameters = inspect.signature(function)
    owner = function.__qualname__.removesuffix('.__init__')

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        bound = parameters.bind(*args, **kwargs).arguments
        for name, annotation in _annotations(function).items():
            if name in bound and bound[name] is not parameters.parameters[name].default:
                require_setting(f'{owner}.{name}', bound[name], annotation)
        return function(*args, **kwargs)

    return typing.cast(F, checked)


@functools.cache
def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """A function -> {parameter: annotation}, without those that take any keyword"""
    some = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    hints = typing.get_type_hints(function, include_extras=True)
    return {name: hint for name, hint in hints.items() if name in some}


@functools.cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return TypeAdapter(annotation, config=config)


def _with_tuples(value: Any) -> Any:
    """Replace lists by tuples, at any depth"""
    if isinstance(value, (list, tuple)):
        return tuple(_with_tuples(item) for item in value)
    return value


def _requirement(message: str) -> str:
    """'Input should be a valid number' -> 'a valid number'"""
    return message.removeprefix('Input should be ').removeprefix('Input should ')


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
