from .aspp_heads import ASPPHeadV2, DepthwiseSeparableASPPHead
from .decode_head import DecodeHead
from .maskclip_head import MaskClipHead
from .segformer_head import SegformerHead

__all__ = [
    'ASPPHeadV2',
    'DecodeHead',
    'DepthwiseSeparableASPPHead',
    'MaskClipHead',
    'SegformerHead',
]
