"""Readouts of the last block of a ViT: switches, presets named by their papers, computations."""

from .feedback import patch_classes
from .last_block import NO_GUIDANCE, Guidance, read_last_block
from .presets import PRESETS, readout_of
from .switches import Feedback, Readout, blocks_needed

__all__ = [
    'NO_GUIDANCE',
    'PRESETS',
    'Feedback',
    'Guidance',
    'Readout',
    'blocks_needed',
    'patch_classes',
    'read_last_block',
    'readout_of',
]
