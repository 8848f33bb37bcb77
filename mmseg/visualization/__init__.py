"""Pictures of label maps: overlays, legends, sheets."""

from .overlay import blend, enlarged, legend, overlay_with_legend, panels, shares_of, with_names
from .sheet import beside, contact_sheet, grid

__all__ = [
    'beside',
    'blend',
    'contact_sheet',
    'enlarged',
    'grid',
    'legend',
    'overlay_with_legend',
    'panels',
    'shares_of',
    'with_names',
]
