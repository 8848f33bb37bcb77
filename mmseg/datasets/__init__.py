"""Photos and masks from folders, and the transforms that turn them into batches."""

from .base import ImageFolderDataset, PhotoDataset
from .corruption import Corrupt
from .folders import (
    ADE20KDataset,
    CityscapesDataset,
    COCOObjectDataset,
    COCOStuffDataset,
    PascalContextDataset,
    PascalContextDataset59,
    PascalVOCDataset,
    ReleasedDataset,
    SegDataset,
)
from .miniature import MiniatureDataset, RenderScene
from .transforms import (
    LoadAnnotations,
    LoadImage,
    LoadPseudoLabels,
    PackSegInputs,
    PhotoMetricDistortion,
    RandomCrop,
    RandomFlip,
    RandomResize,
    Resize,
    ResizeShortSide,
    Unlabeled,
)

__all__ = [
    'ADE20KDataset',
    'COCOObjectDataset',
    'COCOStuffDataset',
    'CityscapesDataset',
    'Corrupt',
    'ImageFolderDataset',
    'LoadAnnotations',
    'LoadImage',
    'LoadPseudoLabels',
    'MiniatureDataset',
    'PackSegInputs',
    'PascalContextDataset',
    'PascalContextDataset59',
    'PascalVOCDataset',
    'PhotoDataset',
    'PhotoMetricDistortion',
    'RandomCrop',
    'RandomFlip',
    'RandomResize',
    'ReleasedDataset',
    'RenderScene',
    'Resize',
    'ResizeShortSide',
    'SegDataset',
    'Unlabeled',
]
