"""Small helpers that know nothing of segmentation."""

from .digest import digest_state
from .files import atomic_path, output_dir
from .progress import Progress
from .suggest import nearest

__all__ = ['Progress', 'atomic_path', 'digest_state', 'nearest', 'output_dir']
