from .overlay import blend, contact_sheet, legend, overlay_with_legend, panels

__all__ = ['blend', 'contact_sheet', 'legend', 'overlay_with_legend', 'panels']
