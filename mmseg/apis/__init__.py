"""The Python interface: `init_model`, `segment`; `mmseg.apis.test.test`, `mmseg.apis.train.train`.

Names are imported on first use, so that command lines can show their help without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inference import Segmenter, inference_model, init_model, segment, show_result_pyplot
    from .propose import propose_words
    from .result import Segmentation

__all__ = [
    'Segmentation',
    'Segmenter',
    'distill',
    'inference_model',
    'init_model',
    'propose_words',
    'segment',
    'show_result_pyplot',
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    homes = dict(
        Segmentation='mmseg.apis.result',
        distill='mmseg.labelling.distill',
        propose_words='mmseg.apis.propose',
    )
    return getattr(import_module(homes.get(name, 'mmseg.apis.inference')), name)


def __dir__() -> list[str]:
    return __all__
