"""What the tools do, from Python: `init_model`, `segment`; `test.test`, `train.train`."""

from .inference import Segmenter, inference_model, init_model, segment, show_result_pyplot
from .result import Segmentation

__all__ = [
    'Segmentation',
    'Segmenter',
    'inference_model',
    'init_model',
    'segment',
    'show_result_pyplot',
]
