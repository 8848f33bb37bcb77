"""Which keys a config may have for what is built from it."""

import inspect

from mmseg.errors import UserError

from .suggest import nearest


def accepted_keys(built, options_of=None):
    """A class or builder -> the keys that its config may have, or None for any.

    Positional-only parameters are the caller's to give. With `**kwargs` the keys of the base class
    count too, or in a builder those of the class that it builds, `options_of`.
    """
    classes = [item for item in (built, options_of) if inspect.isclass(item)]
    queue = [base for item in classes[:1] for base in inspect.getmro(item)]
    keys, queue = set(), queue if inspect.isclass(built) else [built, *queue]
    while queue:
        item = queue.pop(0)
        if inspect.isclass(item) and '__init__' not in vars(item):
            continue
        parameters = _parameters(item)
        keys |= {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return keys - {'self'}
    return None


def required_keys(built):
    """A class or builder -> the keys that its config must have."""
    keys = {
        p.name
        for p in _parameters(built)
        if p.default is p.empty and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }
    return keys - {'self'}


def require_keys(config, built, where, options_of=None):
    """Refuse a config dict with an unknown key, or without a needed one.

    Raises:
        UserError: that key, where it stands, and the nearest right one.
    """
    if not isinstance(config, dict):
        raise UserError(f'{where} is a dict of settings, not {config!r}')
    known = accepted_keys(built, options_of)
    if known is not None:
        require_known(set(config) - {'type'}, known, where)
    for key in sorted(required_keys(built) - set(config)):
        raise UserError(f'{where} lacks the key {key!r}')


def require_known(keys, known, where):
    """Refuse keys outside `known`; names the first one and the nearest right one."""
    for key in sorted(map(str, set(keys) - set(known))):
        raise UserError(f'{where} has no key {key!r}{nearest(key, known)}')


def _parameters(item):
    function = item.__init__ if inspect.isclass(item) else item
    return inspect.signature(function).parameters.values()
