from .formatting import PackSegInputs
from .loading import LoadAnnotations, LoadImage
from .resize import Resize, ResizeShortSide

__all__ = ['LoadAnnotations', 'LoadImage', 'PackSegInputs', 'Resize', 'ResizeShortSide']
