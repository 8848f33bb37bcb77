"""Photos and masks from folders, and the pipeline that turns them into batches."""

from .image_folder import ImageFolderDataset
from .miniature import MiniatureDataset, RenderScene
from .pseudo_labels import LoadPseudoLabels
from .segmentation import (
    ADE20KDataset,
    CityscapesDataset,
    COCOObjectDataset,
    COCOStuffDataset,
    PascalContextDataset,
    PascalContextDataset59,
    PascalVOCDataset,
    SegDataset,
)
from .transforms import LoadAnnotations, LoadImage, PackSegInputs, Resize, ResizeShortSide

__all__ = [
    'ADE20KDataset',
    'COCOObjectDataset',
    'COCOStuffDataset',
    'CityscapesDataset',
    'ImageFolderDataset',
    'LoadAnnotations',
    'LoadImage',
    'LoadPseudoLabels',
    'MiniatureDataset',
    'PackSegInputs',
    'PascalContextDataset',
    'PascalContextDataset59',
    'PascalVOCDataset',
    'RenderScene',
    'Resize',
    'ResizeShortSide',
    'SegDataset',
]
