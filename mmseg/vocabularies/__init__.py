"""Class names, the prompts that CLIP reads for them, and their colours."""

from .templates import TEMPLATES, resolve_templates
from .vocabulary import (
    Vocabulary,
    distinct_palette,
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
