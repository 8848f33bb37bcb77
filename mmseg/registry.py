"""Register the types that configs name, in children of mmengine's registries."""

from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = 'mmseg'


def _build_model(config: dict, *arguments: Any, registry: Registry) -> Any:
    """Import `mmseg.models`, which replaces this function, and build"""
    registry.import_from_location()
    return registry.build(config, *arguments)


def _child(name: str, parent: Registry, *packages: str) -> Registry:
    locations = [f'mmseg.{package}' for package in packages]
    return Registry(name, parent=parent, scope=SCOPE, locations=locations)


MODELS = _child('model', root.MODELS, 'models')
MODELS.build_func = _build_model
DATASETS = _child('dataset', root.DATASETS, 'datasets')
TRANSFORMS = _child('transform', root.TRANSFORMS, 'datasets.transforms')
METRICS = _child('metric', root.METRICS, 'evaluation')
HOOKS = _child('hook', root.HOOKS, 'engine')
DATA_SAMPLERS = _child('data sampler', root.DATA_SAMPLERS, 'engine')
LOOPS = _child('loop', root.LOOPS, 'engine')
OPTIM_WRAPPERS = _child('optim_wrapper', root.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine'
)

# Empty, but mmengine warns about every registry that a scope lacks.
_EMPTY = [
    _child(parent.name, parent, 'registry')
    for parent in (
        root.EVALUATOR,
        root.FUNCTIONS,
        root.LOG_PROCESSORS,
        root.OPTIMIZERS,
        root.PARAM_SCHEDULERS,
        root.VISBACKENDS,
        root.VISUALIZERS,
    )
]

REGISTRIES = (
    MODELS,
    DATASETS,
    TRANSFORMS,
    METRICS,
    HOOKS,
    DATA_SAMPLERS,
    LOOPS,
    OPTIM_WRAPPERS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    *_EMPTY,
)
