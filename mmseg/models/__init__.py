"""MaskCLIP as modules that take tensors and modules, and the builder that reads configs."""

from .builder import assemble_maskclip, build_maskclip
from .class_weight import ClassWeight, blend, reweight
from .clip_parts import build_class_weight, build_extractor, build_head, build_text
from .clip_pretraining import ClipPretraining, build_clip_pretraining, contrastive_loss
from .count import ParameterCounts, count_parameters
from .data_preprocessor import SegDataPreprocessor
from .decode_heads import ASPPHeadV2, DepthwiseSeparableASPPHead, MaskClipHead, SegformerHead
from .masked_autoencoder import MaskedAutoencoder, build_masked_autoencoder
from .pamr import PAMR
from .pseudo_label import confidence, fill_from, fill_unlabeled
from .refine import key_smooth, prompt_denoise
from .robust_loss import ClassBalance, RobustLoss
from .scoring import Scoring
from .segmentors import EncoderDecoder, MaskClip, MaskClipPlus
from .student_builder import build_maskclip_plus, build_mit, build_timm_backbone
from .superpixels import Superpixels
from .text_classifier import TextClassifier
from .upsample import bilinear_matrix
from .windows import Windows

__all__ = [
    'ASPPHeadV2',
    'ClassBalance',
    'ClassWeight',
    'ClipPretraining',
    'DepthwiseSeparableASPPHead',
    'EncoderDecoder',
    'MaskClip',
    'MaskClipHead',
    'MaskClipPlus',
    'MaskedAutoencoder',
    'PAMR',
    'ParameterCounts',
    'RobustLoss',
    'Scoring',
    'SegDataPreprocessor',
    'SegformerHead',
    'Superpixels',
    'TextClassifier',
    'Windows',
    'assemble_maskclip',
    'bilinear_matrix',
    'blend',
    'build_class_weight',
    'build_clip_pretraining',
    'build_extractor',
    'build_head',
    'build_maskclip',
    'build_maskclip_plus',
    'build_masked_autoencoder',
    'build_mit',
    'build_text',
    'build_timm_backbone',
    'confidence',
    'contrastive_loss',
    'count_parameters',
    'fill_from',
    'fill_unlabeled',
    'key_smooth',
    'prompt_denoise',
    'reweight',
]
