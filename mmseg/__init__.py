"""MaskCLIP, class weights and MaskCLIP+: segmentation into any classes named in words."""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

__version__ = '0.2.0'


def _other_mmseg() -> Path | None:
    """Find the folder of another `mmseg` on the path, such as PyPI's mmsegmentation."""
    here = Path(__file__).resolve().parent
    for entry in sys.path:
        spec = PathFinder.find_spec('mmseg', [entry])
        if spec is not None and spec.origin and Path(spec.origin).resolve().parent != here:
            return Path(spec.origin).parent
    return None


if (_other := _other_mmseg()) is not None:
    print(
        f'note: another mmseg is installed at {_other}; this run uses {Path(__file__).parent}',
        file=sys.stderr,
    )
