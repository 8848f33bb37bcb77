"""Labels of many photos: units of work, each done once, by any number of processes."""

from .find import find_units
from .labeller import Labeller
from .units import PhotoUnit, TarUnit, label_unit

__all__ = ['Labeller', 'PhotoUnit', 'TarUnit', 'find_units', 'label_unit']
