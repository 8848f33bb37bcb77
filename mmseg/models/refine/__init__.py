"""Refinements of scores and labels: each takes them and returns them."""

from .denoise import ABSENT, KEY_AXES, LOGIT_SCALE, key_smooth, prompt_denoise
from .pamr import PAMR
from .superpixels import Superpixels

__all__ = [
    'ABSENT',
    'KEY_AXES',
    'LOGIT_SCALE',
    'PAMR',
    'Superpixels',
    'key_smooth',
    'prompt_denoise',
]
