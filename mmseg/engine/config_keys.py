"""List the keys that a config may use for a class or function, from its signature."""

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


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


def config_keys(
    built: Callable[..., Any], options_of: type | None = None
) -> tuple[dict[str, Key], bool]:
    """List the keys for a class, or for a builder function.

    Positional-only parameters are the caller's to give, so they are no keys. `**options` stands
    for the parameters of the next base class; in a builder, for those of the class that it builds.

    Args:
        options_of: the class that the builder builds.

    Returns:
        {name: Key}, and whether any other key is taken too.
    """
    keys: dict[str, Key] = {}
    functions = _functions(built, options_of)
    for function in functions:
        parameters = _parameters(function)
        hints = _hints(function)
        for parameter in parameters:
            if parameter.kind in NAMED and parameter.name not in keys:
                required = parameter.default is parameter.empty and function is functions[0]
                hint = hints.get(parameter.name, Any)
                keys[parameter.name] = Key(hint, parameter.default, required, function)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return keys, False
    return keys, bool(functions)


def _functions(built: Callable[..., Any], options_of: type | None) -> list[Callable[..., Any]]:
    """List the functions whose parameters count, from the outermost on"""
    classes = (
        inspect.getmro(built) if inspect.isclass(built) else inspect.getmro(options_of or object)
    )
    inits = [vars(base)['__init__'] for base in classes[:-1] if '__init__' in vars(base)]
    return inits if inspect.isclass(built) else [built, *inits]


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())
    return parameters[parameters[:1] != [] and parameters[0].name == 'self' :]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Evaluate annotations; leave out those whose names only type checkers import"""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError:
        written = inspect.get_annotations(inspect.unwrap(function))
        hints = {}
        for name, hint in written.items():
            try:
                scope = inspect.unwrap(function).__globals__
                hints[name] = eval(hint, scope) if isinstance(hint, str) else hint
            except NameError:
                continue
        return hints
