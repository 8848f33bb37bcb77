"""Class names, what CLIP reads for them, and their colours: data, and the code that reads it."""

from .palette import distinct_palette
from .templates import TEMPLATES, resolve_templates
from .vocabulary import (
    Vocabulary,
    label_difference,
    list_vocabularies,
    load_vocabulary,
    parse_vocabulary,
)

__all__ = [
    'TEMPLATES',
    'Vocabulary',
    'distinct_palette',
    'label_difference',
    'list_vocabularies',
    'load_vocabulary',
    'parse_vocabulary',
    'resolve_templates',
]
