"""Refinements of scores and labels: each takes them and returns them."""

from .denoise import key_smooth, prompt_denoise
from .pamr import PAMR
from .superpixels import Superpixels

__all__ = ['PAMR', 'Superpixels', 'key_smooth', 'prompt_denoise']
