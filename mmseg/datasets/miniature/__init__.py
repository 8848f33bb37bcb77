from .dataset import MiniatureDataset, RenderScene
from .world import COLOURS, LABELS, STUFF, TEMPLATES, THINGS, Scene, caption, render

__all__ = [
    'COLOURS',
    'LABELS',
    'STUFF',
    'TEMPLATES',
    'THINGS',
    'MiniatureDataset',
    'RenderScene',
    'Scene',
    'caption',
    'render',
]
