from .aspp_head import ASPPHeadV2
from .decode_head import DecodeHead
from .maskclip_head import MaskClipHead
from .segformer_head import SegformerHead

__all__ = ['ASPPHeadV2', 'DecodeHead', 'MaskClipHead', 'SegformerHead']
