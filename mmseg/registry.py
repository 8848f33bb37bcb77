"""The project's registries: children of mmengine's, so that its own types are found too."""

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = 'mmseg'


def _child(name, parent, *places):
    return Registry(name, parent=parent, scope=SCOPE, locations=[f'mmseg.{p}' for p in places])


MODELS = _child('model', root.MODELS, 'models')
DATASETS = _child('dataset', root.DATASETS, 'datasets')
TRANSFORMS = _child('transform', root.TRANSFORMS, 'datasets.transforms')
METRICS = _child('metric', root.METRICS, 'evaluation')
HOOKS = _child('hook', root.HOOKS, 'engine')

REGISTRIES = (MODELS, DATASETS, TRANSFORMS, METRICS, HOOKS, root.DATA_SAMPLERS, root.LOOPS,
              root.OPTIMIZERS, root.PARAM_SCHEDULERS, root.VISUALIZERS, root.VISBACKENDS,
              root.EVALUATOR, root.LOG_PROCESSORS, root.FUNCTIONS, root.OPTIM_WRAPPERS,
              root.OPTIM_WRAPPER_CONSTRUCTORS)
