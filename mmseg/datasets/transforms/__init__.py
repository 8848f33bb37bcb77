from .augment import PhotoMetricDistortion, RandomCrop, RandomFlip, RandomResize
from .formatting import PackSegInputs
from .loading import LoadAnnotations, LoadImage, Unlabeled
from .resize import Resize, ResizeShortSide

__all__ = [
    'LoadAnnotations',
    'LoadImage',
    'PackSegInputs',
    'PhotoMetricDistortion',
    'RandomCrop',
    'RandomFlip',
    'RandomResize',
    'Resize',
    'ResizeShortSide',
    'Unlabeled',
]
