"""The last block of a ViT read out for every patch: switches, and presets named by their papers."""

from .feedback import patch_classes
from .last_block import NOTHING, Outside, read_out
from .presets import PRESETS, readout_of
from .switches import Feedback, Layers, Readout, Repair, SelfSelf, blocks_needed

__all__ = [
    'NOTHING',
    'PRESETS',
    'Feedback',
    'Layers',
    'Outside',
    'Readout',
    'Repair',
    'SelfSelf',
    'blocks_needed',
    'patch_classes',
    'read_out',
    'readout_of',
]
