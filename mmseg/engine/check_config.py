"""Every `type` and key of a config, checked before anything is built."""

import inspect

from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmseg.errors import UserError
from mmseg.models.build import BUILDERS
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS, REGISTRIES, SCOPE, TRANSFORMS
from mmseg.utils import accepted_keys, nearest, require_known, required_keys

OWN_KEYS = {
    'vocabulary',
    'unseen',
    'class_weight',
    'teacher',
    'pseudo_labels',
    'readout',
    'protocol',
    'compile',
    'tf32',
    'device',
}
TAKEN_OUT = {'_scope_', 'priority', 'paramwise_cfg', 'constructor'}  # by mmengine's own builders
SAID_WHOLE = (MODELS, DATASETS, TRANSFORMS, METRICS, HOOKS)  # callers add nothing
LOADER_KEYS = {'dataset', 'sampler', 'batch_sampler', 'collate_fn'}


def check_config(config):
    """Walk a Config; the first unknown key or type is named with the nearest right one.

    Raises:
        UserError: that key or type, or a key that is missing, and where it stands.
    """
    for registry in REGISTRIES:
        registry.import_from_location()
    known = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | OWN_KEYS
    require_known(set(config.keys()), known, 'the config')
    for key, value in config.items():
        if key.endswith('_dataloader') and value is not None:
            parameters = set(inspect.signature(DataLoader.__init__).parameters) - {'self'}
            require_known(set(value), parameters | LOADER_KEYS, key)
            for part in {'dataset', 'sampler'} & set(value):
                if not isinstance(value[part], dict) or 'type' not in value[part]:
                    raise UserError(f'{key}.{part} is a dict with a type, not {value[part]!r}')
        _check(value, key)
    if isinstance(config.get('randomness'), dict):
        require_known(config.randomness, accepted_keys(Runner.set_randomness), 'randomness')


def _check(value, where):
    if isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check(item, f'{where}[{i}]')
    elif isinstance(value, dict):
        if isinstance(value.get('type'), str):
            cls, registry = _find(value['type'], where)
            built = BUILDERS.get(cls, cls)
            accepted, typed = accepted_keys(built, cls), f'{where} (type {value["type"]})'
            if accepted is not None:
                require_known(set(value) - {'type', *TAKEN_OUT}, accepted, typed)
            if registry in SAID_WHOLE:
                given = {'vocabulary'} if where == 'model.teacher' else set()  # the student's
                for key in sorted(required_keys(built) - set(value) - given):
                    raise UserError(f'{typed} lacks the key {key!r}')
        for key, item in value.items():
            _check(item, f'{where}.{key}')


def _find(name, where):
    for registry in REGISTRIES:
        found = registry.get(name)
        if found is not None:
            return found, registry
    names = {name for registry in REGISTRIES for name in _names(registry)}
    raise UserError(f'{where}: no type is called {name!r}{nearest(name, names)}')


def _names(registry):
    while registry is not None:
        yield from registry.module_dict
        registry = registry.parent if registry.scope == SCOPE else None
