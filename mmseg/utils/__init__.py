"""Small helpers that know nothing of segmentation.

Helpers for tensors are in `mmseg.utils.tensors`, so that this package does not import PyTorch.
"""

from .describe import describe_file, describe_weights, nearest
from .files import (
    CHECKOUT,
    PACKAGE,
    RESOURCES,
    atomic_path,
    cache_folder,
    digest_file,
    hub_errors,
    in_checkout,
    library_errors,
    output_dir,
    path_below,
    point_to,
    read_json,
    reason_of,
    sweep_parts,
    unique_names,
    write_json,
    write_text,
)
from .images import read_image
from .progress import Progress
from .signature import config_keys, require_keys, require_known
from .values import (
    Builds,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Seed,
    Settings,
    Whole,
    require_fields,
    require_setting,
    short_repr,
    validated,
)

__all__ = [
    'Builds',
    'CHECKOUT',
    'Count',
    'Fraction',
    'NotNegative',
    'PACKAGE',
    'Positive',
    'Progress',
    'RESOURCES',
    'Seed',
    'Settings',
    'Whole',
    'atomic_path',
    'cache_folder',
    'config_keys',
    'digest_file',
    'hub_errors',
    'in_checkout',
    'library_errors',
    'describe_weights',
    'nearest',
    'output_dir',
    'path_below',
    'point_to',
    'read_image',
    'read_json',
    'reason_of',
    'require_fields',
    'require_keys',
    'require_known',
    'require_setting',
    'short_repr',
    'sweep_parts',
    'unique_names',
    'validated',
    'write_json',
    'write_text',
    'describe_file',
]
