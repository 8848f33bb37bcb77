"""Check settings against type annotations: `tau: Positive`, `scale: tuple[Count, Count]`.

`validated` checks the arguments of a call, `require_setting` checks one value. Pydantic compares
value and annotation in its strict mode: '1' and True are not numbers, 1.5 is not an integer.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, is_dataclass
from numbers import Integral
from typing import Annotated, Any, Literal, TypeVar, Union

from annotated_types import Ge, Gt, Interval

from mmseg.errors import UserError

from .describe import nearest

Fraction = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Seed = Annotated[int, Interval(ge=0, lt=2**32)]  # of NumPy's generators
Settings = Mapping[str, Any]  # a dict in a config
F = TypeVar('F', bound=Callable[..., Any])
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

MOST_CHARACTERS = 80  # of a value in a message
WORDS = {
    bool: 'True or False',
    int: 'a whole number',
    float: 'a number',
    str: 'a string',
    type(None): 'None',
    Any: 'any value',
}


@dataclass(frozen=True)
class Builds:
    """Name what a nested dict of settings builds: `head: Annotated[Settings, Builds(Head)]`.

    Args:
        default: the class or function that a dict without `type` builds; None where the dict needs
            a `type`.
    """

    default: Callable[..., Any] | None = None


def require_setting(name: str, value: Any, annotation: Any) -> None:
    """Refuse a value that does not match an annotation. A list may stand for a tuple.

    Args:
        name: full path of the setting, for the message.
        annotation: a type that pydantic knows; values of other classes are checked by isinstance.

    Raises:
        UserError: the path, what the value must be, and what it is.
    """
    from pydantic import ValidationError

    errors: list[Any] = []
    for form in (value, _sequences_as(tuple, value), _sequences_as(list, value)):
        try:
            _adapter(annotation).validate_python(form, strict=True)
            return
        except ValidationError as error:
            errors += error.errors(include_url=False, include_context=False)
    messages = [e['msg'].partition(', ')[2] for e in errors if e['type'] == 'value_error']
    words = ' and '.join(dict.fromkeys(messages)) or requirement(annotation)
    hint = nearest(value, choices_of(annotation)) if isinstance(value, str) else ''
    raise UserError(f'{name} must be {words}, not {short_repr(value)}{hint}')


def requirement(annotation: Any) -> str:
    """Put an annotation into words: Count -> 'a whole number of at least 1'."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return requirement(args[0]) + _bounds(args[1:])
    if origin in (Literal, Union, types.UnionType):
        *first, last = dict.fromkeys(_options(annotation))
        return f'{", ".join(first)} or {last}' if first else last
    if annotation in WORDS:
        return WORDS[annotation]
    if origin is tuple and args and args[-1] is not Ellipsis:
        items = list(dict.fromkeys(map(requirement, args)))
        content = f'each {items[0]}' if len(items) == 1 else ', '.join(items)
        return f'a list of {len(args)}: {content}'
    base = origin or annotation
    if isinstance(base, type) and issubclass(base, Mapping):
        return 'a dict'
    if isinstance(base, type) and issubclass(base, (Sequence, Set)):
        each = f', each item {requirement(args[0])}' if args and args[0] is not Any else ''
        return f'a list{each}'
    if base is Callable:
        return 'a function'
    return f'of type {getattr(base, "__name__", base)}'


def _bounds(metadata: tuple[Any, ...]) -> str:
    """(Gt(0), Lt(1)) -> ' above 0 and below 1'"""
    words = dict(gt='above', ge='of at least', lt='below', le='of at most')
    found = ((name, getattr(item, name, None)) for name in words for item in metadata)
    limits = {name: limit for name, limit in found if limit is not None}
    if limits.keys() == {'ge', 'le'}:
        return f' from {limits["ge"]} to {limits["le"]}'
    parts = [f'{words[name]} {limit}' for name, limit in limits.items()]
    return ' ' * bool(parts) + ' and '.join(parts)


def _options(annotation: Any) -> list[str]:
    """Literal['a', 'b'] | None -> ["'a'", "'b'", 'None']"""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return [repr(choice) for choice in args]
    if origin in (Union, types.UnionType):
        return [option for arg in args for option in _options(arg)]
    return [requirement(annotation)]


def choices_of(annotation: Any) -> list[Any]:
    """List the values of all `Literal`s in an annotation."""
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [choice for arg in typing.get_args(annotation) for choice in choices_of(arg)]


def short_repr(value: Any) -> str:
    """Represent a value in one line of at most 80 characters."""
    try:
        text = ' '.join(repr(value).split())
    except ValueError:  # Python refuses to print integers of some thousand digits
        return 'an integer of thousands of digits'
    return text if len(text) <= MOST_CHARACTERS else f'{text[: MOST_CHARACTERS - 3]}...'


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
        for name, annotation in annotations_of(function).items():
            if name in bound and bound[name] is not parameters.parameters[name].default:
                require_setting(f'{owner}.{name}', bound[name], annotation)
        return function(*args, **kwargs)

    return typing.cast(F, checked)


def require_fields(name: str, instance: Any) -> None:
    """Refuse a dataclass with a value that does not match its field's annotation.

    Raises:
        UserError: see `require_setting`; `name.field` is its path.
    """
    for field, annotation in annotations_of(type(instance).__init__).items():
        require_setting(f'{name}.{field}', getattr(instance, field), annotation)


@functools.cache
def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Map the settings of a function to their annotations.

    Positional-only parameters, `*args` and `**kwargs` are no settings.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind in NAMED}
    return {name: hint for name, hint in hints.items() if name in named}


@functools.cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    if is_dataclass(annotation):  # pydantic does not take a config for these
        return TypeAdapter(annotation)
    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return TypeAdapter(annotation, config=config)


def _sequences_as(sequence_type: type, value: Any) -> Any:
    """Convert lists and tuples to one of both types, and NumPy's integers to int, at any depth."""
    if isinstance(value, (list, tuple)):
        return sequence_type(_sequences_as(sequence_type, item) for item in value)
    if isinstance(value, Integral) and not isinstance(value, int):
        return int(value)
    return value
