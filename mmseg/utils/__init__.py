"""Small helpers that know nothing of segmentation."""

from .count import count_unasked
from .describe import kind_of, shown, what_is
from .digest import digest_file, digest_state
from .download import download
from .files import atomic_path, output_dir, point_to, unique_names
from .memory import peak_memory
from .progress import Progress
from .signature import accepted_keys, require_keys, require_known
from .statistics import channel_statistics
from .suggest import nearest
from .values import require_choice, require_number, require_pair

__all__ = [
    'Progress',
    'accepted_keys',
    'atomic_path',
    'channel_statistics',
    'count_unasked',
    'digest_file',
    'digest_state',
    'download',
    'kind_of',
    'nearest',
    'output_dir',
    'peak_memory',
    'point_to',
    'require_choice',
    'require_keys',
    'require_known',
    'require_number',
    'require_pair',
    'shown',
    'unique_names',
    'what_is',
]
