from .overlay import blend, legend, overlay_with_legend, panels

__all__ = ['blend', 'legend', 'overlay_with_legend', 'panels']
