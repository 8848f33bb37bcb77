from .aspp_head import ASPPHeadV2
from .decode_head import DecodeHead
from .maskclip_head import MaskClipHead
from .segformer_head import SegformerHead
from .sep_aspp_head import DepthwiseSeparableASPPHead

__all__ = [
    'ASPPHeadV2',
    'DecodeHead',
    'DepthwiseSeparableASPPHead',
    'MaskClipHead',
    'SegformerHead',
]
