"""Check a config against the signatures of what it builds, before anything is built.

A dict with a `type`, or under a key annotated `Annotated[Settings, Builds(X)]`, holds arguments.
Each key must be a parameter, each needed parameter a key, and each value must match the annotation.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union

from mmengine.config import Config
from mmengine.registry import FUNCTIONS, Registry

from mmseg.clip.readout import readout_of
from mmseg.errors import UserError
from mmseg.models.build import BUILDERS
from mmseg.registry import REGISTRIES, SCOPE
from mmseg.utils import Builds, Settings, config_keys, nearest, require_setting
from mmseg.utils.signature import Key

from .config_schema import NARROWER, PASSED, TAKEN
from .config_schema import config as top_level

PLAIN = (bool, int, float, str, type(None), list, tuple, dict)
FILLED_IN_BY_STUDENT = {'model.teacher': {'vocabulary'}}


def check_config(config: Config, complete: bool = True) -> None:
    """Check types, keys and values of a config.

    Args:
        complete: also refuse a config that lacks a key. Before shared keys are filled in, it may.

    Raises:
        UserError: the first mistake: its full path, what it must be, and what it is.
    """
    for registry in REGISTRIES:
        registry.import_from_location()
    _check_keys(config.to_dict(), top_level, None, '', complete)


def _check_keys(
    settings: Settings,
    built: Callable[..., Any],
    registry: Registry | None,
    where: str,
    complete: bool,
) -> None:
    """Check one dict of arguments for what it builds"""
    keys, takes_any = _keys_of(built, registry)
    shown = f'{where} (type {settings["type"]})' if 'type' in settings else where or 'the config'
    for name in settings:
        if name not in {*keys, 'type', '_scope_'} and not takes_any:
            raise UserError(f'{shown} has no key {name!r}{nearest(name, keys)}')
    absent = {name for name, key in keys.items() if key.required} - settings.keys()
    for name in sorted(absent - FILLED_IN_BY_STUDENT.get(where, set())) if complete else ():
        raise UserError(f'{shown} lacks the key {name!r}')
    for name, value in settings.items():
        if name == '_scope_' or (name == 'type' and name not in keys):
            continue
        key = keys.get(name, Key(NARROWER.get(name, Any), None, False, built))
        path = f'{where}.{name}'.lstrip('.')
        # mmengine's annotations may forget the default
        if type(value) is not type(key.default) or value != key.default:
            _check_value(value, key.annotation, path, complete)
        if name == 'readout' and value is not None:
            _check_readout(value, path)


def _check_readout(value: str | Settings, path: str) -> None:
    try:
        readout_of(value, path)
    except UserError as error:
        text = str(error)
        if text.startswith(path):
            raise
        if text.startswith('readout'):  # a switch's own check knows no more of its path
            raise UserError(path.removesuffix('readout') + text) from error
        raise UserError(f'{path}: {text}') from error


def _check_value(value: Any, annotation: Any, path: str, complete: bool) -> None:
    """Check one value, item by item where it is a list or a dict"""
    part, metadata = _alternative_for(value, annotation)
    args = typing.get_args(part)
    if isinstance(value, (list, tuple)) and part is not None:
        item = args[0] if args else Any
        for i, inner in enumerate(value):
            _check_value(inner, item, f'{path}[{i}]', complete)
    elif isinstance(value, dict) and part is not None:
        built, registry = _class_of(value, metadata, path)
        if built is not None:
            _check_keys(value, built, registry, path, complete)
        else:
            for name, inner in value.items():
                _check_value(inner, args[1] if args else Any, f'{path}.{name}', complete)
    else:
        require_setting(path, value, annotation)


def _class_of(
    settings: Settings, metadata: Sequence[Any], path: str
) -> tuple[Callable[..., Any] | None, Registry | None]:
    """Find the class or function that a dict gives arguments to, and its registry"""
    default = next((item.default for item in metadata if isinstance(item, Builds)), None)
    registries = [item for item in metadata if isinstance(item, Registry)]
    first = next(iter(registries), None)
    if default is not None and ('type' not in settings or 'type' in config_keys(default)[0]):
        return default, first
    if 'type' not in settings:
        if any(isinstance(item, (Builds, Registry)) for item in metadata):
            raise UserError(f"{path} lacks the key 'type'")
        return None, None
    name = settings['type']
    if callable(name):
        return name, first
    require_setting(f'{path}.type', name, str)
    registries = registries or list(REGISTRIES)
    for registry in registries:
        built = registry.get(name)
        if built is not None:
            return built, registry
    names = {key for registry in registries for key in _names(registry)}
    raise UserError(f'{path}: no type is called {name!r}{nearest(name, names)}')


def _names(registry: Registry | None) -> Iterator[str]:
    while registry is not None:
        yield from registry.module_dict
        registry = registry.parent if registry.scope == SCOPE else None


def _keys_of(built: Callable[..., Any], registry: Registry | None) -> tuple[dict[str, Key], bool]:
    """As `config_keys`, without keys that mmengine passes, with those that it takes"""
    builder = BUILDERS.get(built)
    keys, takes_any = config_keys(builder or built, built if builder else None)
    passed = PASSED.get(registry, set())
    if registry is FUNCTIONS:  # called later, with the photos of a batch or the number of a worker
        passed = set(list(inspect.signature(built).parameters)[:1])
    keys = {name: _narrowed(name, key) for name, key in keys.items() if name not in passed}
    for name, annotation in TAKEN.get(registry, {}).items():
        keys[name] = Key(annotation, None, False, built)
    return keys, takes_any


def _narrowed(name: str, key: Key) -> Key:
    """Replace the annotation of a key that is a parameter of mmengine's or PyTorch's"""
    if key.owner.__module__.startswith(f'{SCOPE}.'):
        return key
    annotation = NARROWER.get(name, plain_part(key.annotation))
    return dataclasses.replace(key, annotation=annotation)


def plain_part(annotation: Any) -> Any:
    """Keep what a config can hold: `float | Tensor` -> float; Any where nothing is left."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in PLAIN or origin is Literal:
        return annotation
    if origin in (Union, types.UnionType):
        parts = [part for part in map(plain_part, args) if part is not Any]
        return Union[tuple(parts)] if set(parts) - {type(None)} else Any  # noqa: UP007
    if origin in (tuple, list, dict):
        return origin[tuple(item if item is Ellipsis else plain_part(item) for item in args)]
    return Any


def _alternative_for(value: Any, annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Find the part of an annotation for a list or a dict, and its metadata; None without one"""
    for part, metadata in _alternatives(annotation):
        base = typing.get_origin(part) or part
        if base is Any:
            return Any, metadata
        if isinstance(base, type) and isinstance(value, dict) and issubclass(base, Mapping):
            return part, metadata
        many = base is not tuple or typing.get_args(part)[1:] == (Ellipsis,)
        if isinstance(value, (list, tuple)) and many:
            if isinstance(base, type) and issubclass(base, Sequence) and base is not str:
                return part, metadata
    return None, ()


def _alternatives(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple]]:
    """Annotated[A, m] | B -> (A, (m,)), (B, ())"""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from _alternatives(args[0], (*args[1:], *metadata))
    elif origin in (Union, types.UnionType):
        for arg in args:
            yield from _alternatives(arg, metadata)
    else:
        yield annotation, metadata
