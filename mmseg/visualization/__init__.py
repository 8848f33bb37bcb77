from .overlay import (
    beside,
    blend,
    contact_sheet,
    grid,
    legend,
    overlay_with_legend,
    panels,
    shares_of,
)

__all__ = [
    'beside',
    'blend',
    'contact_sheet',
    'grid',
    'legend',
    'overlay_with_legend',
    'panels',
    'shares_of',
]
