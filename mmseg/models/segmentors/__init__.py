from .maskclip import MaskClip

__all__ = ['MaskClip']
