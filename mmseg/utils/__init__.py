"""Small helpers that know nothing of segmentation.

Helpers for tensors are in `mmseg.utils.tensors`, so that this package does not import PyTorch.
"""

from .describe import kind_of, shown, what_is
from .files import (
    CHECKOUT,
    atomic_path,
    digest_file,
    in_checkout,
    output_dir,
    path_below,
    point_to,
    read_json,
    reason_of,
    sweep_parts,
    unique_names,
)
from .images import read_image
from .progress import Progress
from .signature import accepted_keys, require_keys, require_known, required_keys
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
    'digest_file',
    'in_checkout',
    'kind_of',
    'nearest',
    'output_dir',
    'path_below',
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
