"""Small helpers that know nothing of segmentation."""

from .count import count_unasked
from .describe import kind_of, what_is
from .digest import digest_file, digest_state
from .download import download
from .files import atomic_path, output_dir, point_to, unique_names
from .memory import peak_memory
from .on_device import index_of, kept_on_device
from .progress import Progress
from .signature import accepted_keys, require_keys, require_known
from .suggest import nearest

__all__ = [
    'Progress',
    'accepted_keys',
    'atomic_path',
    'count_unasked',
    'digest_file',
    'digest_state',
    'download',
    'index_of',
    'kept_on_device',
    'kind_of',
    'nearest',
    'output_dir',
    'peak_memory',
    'point_to',
    'require_keys',
    'require_known',
    'unique_names',
    'what_is',
]
