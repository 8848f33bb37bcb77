"""MaskCLIP and its students: modules that take tensors and modules, and their builders."""

from .backbones.build import build_mit, build_timm_backbone
from .build import build_class_weight, build_extractor, build_maskclip, build_maskclip_plus
from .class_weight import ClassWeight, reweight
from .clip_pretraining import ClipPretraining, contrastive_loss
from .count import count_parameters
from .decode_heads import ASPPHeadV2, DepthwiseSeparableASPPHead, MaskClipHead, SegformerHead
from .maskclip import MaskClip
from .maskclip_plus import MaskClipPlus
from .masked_autoencoder import MaskedAutoencoder, build_masked_autoencoder
from .postprocess import Scoring
from .pseudo_label import fill_from, fill_unlabeled
from .refine import PAMR, Superpixels, key_smooth, prompt_denoise
from .resize import Windows
from .robust_loss import ClassBalance, RobustLoss
from .text_classifier import TextClassifier

__all__ = [
    'ASPPHeadV2',
    'ClassBalance',
    'ClassWeight',
    'ClipPretraining',
    'DepthwiseSeparableASPPHead',
    'MaskClip',
    'MaskClipHead',
    'MaskClipPlus',
    'MaskedAutoencoder',
    'PAMR',
    'RobustLoss',
    'Scoring',
    'SegformerHead',
    'Superpixels',
    'TextClassifier',
    'Windows',
    'build_class_weight',
    'build_extractor',
    'build_maskclip',
    'build_maskclip_plus',
    'build_masked_autoencoder',
    'build_mit',
    'build_timm_backbone',
    'contrastive_loss',
    'count_parameters',
    'fill_from',
    'fill_unlabeled',
    'key_smooth',
    'prompt_denoise',
    'reweight',
]
