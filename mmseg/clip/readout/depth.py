"""Which blocks of a tower a readout needs, whatever the tower's depth."""

from typing import NamedTuple

from .switches import DEPTH


class Needed(NamedTuple):
    """Numbers from 1, of the tower at hand: outputs and attentions that the trunk must keep."""

    outputs: frozenset[int]
    attentions: frozenset[int]


def blocks_needed(readout, depth) -> Needed:
    """Readout, blocks of the tower -> Needed; output 0 is the first block's input."""
    outputs, attentions = set(), set()
    if readout.layers:
        layers = readout.layers
        outputs = {number_of(layers.before, depth), number_of(layers.after, depth)}
        outputs.update(numbers_of(layers.fused, depth))
    if readout.self_self:
        outputs = set(range(depth - count_of(readout.self_self.blocks, depth), depth))
    if 'early_attention' in readout.terms:
        attentions = set(numbers_of(readout.early_blocks, depth))
    return Needed(frozenset(outputs), frozenset(attentions))


def number_of(block, depth) -> int:
    """Block of twelve -> the tower's, from 1 and before its last"""
    return max(1, min(round(block * depth / DEPTH), depth - 1))


def numbers_of(ends, depth) -> list[int]:
    """(first, last) of twelve, or () -> all the tower's from one to the other"""
    if not ends:
        return []
    return list(range(number_of(ends[0], depth), number_of(ends[1], depth) + 1))


def count_of(blocks, depth) -> int:
    """How many of twelve -> how many of the tower's, at least 1"""
    return max(1, min(round(blocks * depth / DEPTH), depth))
