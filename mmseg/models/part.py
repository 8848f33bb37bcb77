"""A config's dict -> a part, with errors that say where the dict stands."""

from mmseg.errors import UserError
from mmseg.registry import MODELS
from mmseg.utils import nearest, require_keys


def build_part(default, where, config, *given):
    """Call the builder that a part's `type` names, or the default one, with its checked settings.

    Raises:
        UserError: no such type among the models, an unknown key, or a missing one.
    """
    if not isinstance(config, dict):
        raise UserError(f'{where} is a dict of settings, not {config!r}')
    builder = MODELS.get(config['type']) if 'type' in config else default
    if builder is None:
        raise UserError(
            f'{where}: no model part is called {config["type"]!r}'
            f'{nearest(config["type"], MODELS.module_dict)}'
        )
    require_keys(config, builder, where)
    return builder(*given, **without_type(config))


def without_type(config):
    """A part's settings without its `type`."""
    return {key: value for key, value in config.items() if key != 'type'}
