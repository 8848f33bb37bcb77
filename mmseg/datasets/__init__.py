"""Photos and masks from folders, and the pipeline that turns them into batches."""

from .image_folder import ImageFolderDataset
from .segmentation import PascalContextDataset, PascalContextDataset59, PascalVOCDataset, SegDataset
from .transforms import LoadAnnotations, LoadImage, PackSegInputs, Resize, ResizeShortSide

__all__ = [
    'ImageFolderDataset',
    'LoadAnnotations',
    'LoadImage',
    'PackSegInputs',
    'PascalContextDataset',
    'PascalContextDataset59',
    'PascalVOCDataset',
    'Resize',
    'ResizeShortSide',
    'SegDataset',
]
