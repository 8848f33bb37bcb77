from .base import Segmentor
from .encoder_decoder import EncoderDecoder
from .maskclip import MaskClip
from .maskclip_plus import MaskClipPlus

__all__ = ['EncoderDecoder', 'MaskClip', 'MaskClipPlus', 'Segmentor']
