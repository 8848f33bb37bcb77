"""List the keys that a config may use for a class or function, from its signature."""

import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mmseg.errors import UserError

from .describe import nearest
from .values import NAMED, Settings


@dataclass(frozen=True)
class Key:
    """One key of a config.

    Args:
        annotation: what values it takes, `Any` where the signature has no annotation.
        default: the parameter's, or `inspect.Parameter.empty`.
        required: a config must have the key.
        owner: the function whose parameter it is.
    """

    annotation: Any
    default: Any
    required: bool
    owner: Callable[..., Any]


@functools.cache
def config_keys(built: Callable[..., Any], options_of: Any = None) -> tuple[dict[str, Key], bool]:
    """List the keys for a class, or for a builder function.

    Positional-only parameters come from the caller and are no keys. `**options` stands
    for the parameters of the next base class; in a builder, for those of the class that it builds.

    Args:
        options_of: the class that a builder builds; anything but a class has no effect.

    Returns:
        {name: Key}, and whether other keys are accepted too.
    """
    keys: dict[str, Key] = {}
    functions = _functions(built, options_of)
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        hints = _hints(function)
        for parameter in parameters:
            if parameter.kind in NAMED and parameter.name not in (*keys, 'self'):
                required = parameter.default is parameter.empty and function is functions[0]
                hint = hints.get(parameter.name, Any)
                keys[parameter.name] = Key(hint, parameter.default, required, function)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return keys, False
    return keys, bool(functions)


def require_keys(
    settings: Settings, built: Callable[..., Any], where: str, options_of: Any = None
) -> None:
    """Refuse settings with an unknown key, or without a required one.

    Args:
        built, options_of: see `config_keys`.
        where: path of the settings, for the message.

    Raises:
        UserError: the key, and for an unknown one the nearest right one.
    """
    if not isinstance(settings, dict):
        raise UserError(f'{where} must be a dict, not {settings!r}')
    keys, takes_any = config_keys(built, options_of)
    if not takes_any:
        require_known(settings.keys() - {'type'}, keys, where)
    for name in sorted(name for name, key in keys.items() if key.required):
        if name not in settings:
            raise UserError(f'{where} lacks the key {name!r}')


def require_known(keys: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse keys outside `known`.

    Raises:
        UserError: the first one, and the nearest right one.
    """
    for key in sorted(map(str, set(keys) - set(known))):
        raise UserError(f'{where} has no key {key!r}{nearest(key, known)}')


def _functions(built: Callable[..., Any], options_of: Any) -> list[Callable[..., Any]]:
    """List the functions whose parameters count, from the outermost on"""
    owner = next(item for item in (built, options_of, object) if inspect.isclass(item))
    bases = inspect.getmro(owner)[:-1]  # the last, object, has no parameters
    inits = [vars(base)['__init__'] for base in bases if '__init__' in vars(base)]
    return inits if inspect.isclass(built) else [built, *inits]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Evaluate annotations; {} if they hold a name that only type checkers import"""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError:
        return {}
