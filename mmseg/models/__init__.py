"""MaskCLIP as modules that take tensors and modules, and the builder that reads configs."""

from .builder import build_class_weight, build_extractor, build_head, build_maskclip, build_text
from .class_weight import ClassWeight, reweight
from .data_preprocessor import SegDataPreprocessor
from .decode_heads import MaskClipHead
from .refine import key_smooth, prompt_denoise
from .segmentors import MaskClip
from .text_classifier import TextClassifier
from .upsample import bilinear_matrix, labels_at_photo_size, resize_argmax

__all__ = [
    'ClassWeight',
    'MaskClip',
    'MaskClipHead',
    'SegDataPreprocessor',
    'TextClassifier',
    'bilinear_matrix',
    'build_class_weight',
    'build_extractor',
    'build_head',
    'build_maskclip',
    'build_text',
    'key_smooth',
    'labels_at_photo_size',
    'prompt_denoise',
    'resize_argmax',
    'reweight',
]
