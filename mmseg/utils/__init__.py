"""Small helpers that know nothing of segmentation."""

from .checkout import CHECKOUT, in_checkout
from .count import count_unasked
from .describe import kind_of, shown, what_is
from .digest import digest_file, digest_state
from .download import download
from .files import (
    atomic_path,
    output_dir,
    path_below,
    point_to,
    read_json,
    reason_of,
    sweep_parts,
    unique_names,
)
from .images import read_image
from .memory import peak_memory
from .on_device import index_of, kept_on_device
from .progress import Progress
from .signature import accepted_keys, require_keys, require_known, required_keys
from .statistics import channel_statistics
from .suggest import nearest
from .values import (
    Builds,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Settings,
    require_choice,
    require_fields,
    require_number,
    require_pair,
    require_setting,
    validated,
)

__all__ = [
    'Builds',
    'CHECKOUT',
    'Count',
    'Fraction',
    'NotNegative',
    'Positive',
    'Progress',
    'Settings',
    'accepted_keys',
    'atomic_path',
    'channel_statistics',
    'count_unasked',
    'digest_file',
    'digest_state',
    'download',
    'in_checkout',
    'index_of',
    'kept_on_device',
    'kind_of',
    'nearest',
    'output_dir',
    'path_below',
    'peak_memory',
    'point_to',
    'read_image',
    'read_json',
    'reason_of',
    'require_choice',
    'require_fields',
    'require_keys',
    'require_known',
    'require_number',
    'require_pair',
    'require_setting',
    'required_keys',
    'shown',
    'sweep_parts',
    'unique_names',
    'validated',
    'what_is',
]
