from .mit import MixVisionTransformer
from .timm_backbone import TimmBackbone

__all__ = ['MixVisionTransformer', 'TimmBackbone']
