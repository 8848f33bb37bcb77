"""What is read from the last block, as switches; a published method is a name for some of them.

Blocks are numbered as in a tower of twelve, from 1; in a tower of L blocks, block b is
round(b * L / 12), at least 1 and before the last.
"""

from dataclasses import dataclass
from typing import NamedTuple

from mmseg.errors import UserError
from mmseg.utils import require_choice, require_number, require_pair

LARGE = 10**6  # a number beyond overflows somewhere
SMALL = 1e-3  # and a divisor below
DEPTH = 12  # blocks are numbered as in a tower of so many
PAIRS = {f'{a}-{b}' for a in 'qkv' for b in 'qkv'}
MAPS = ('layer_similarity', 'proxy', 'early_attention')
TERMS = ('value', *sorted(PAIRS), *MAPS)
BLOCK = dict(least=1, most=DEPTH, whole=True)
BLOCKS = dict(BLOCK, ordered=True)  # the first and the last of some


@dataclass(frozen=True)
class SelfSelf:
    """Self-self attention iterated on unit rows, in several blocks (GEM, CVPR 2024).

    Attributes:
        blocks: of twelve, at the end of the tower; each adds to a stream without MLPs.
        iterations: how often queries (or keys, or values) are replaced by their own mixture.
        temperature: of the softmax; None for the mean length of the block's input / sqrt(d).
    """

    blocks: int = 6
    iterations: int = 1
    temperature: float | None = None

    def __post_init__(self):
        where = 'readout.self_self'
        require_number(f'{where}.blocks', self.blocks, **BLOCK)
        require_number(f'{where}.iterations', self.iterations, least=0, most=LARGE, whole=True)
        if self.temperature is not None:
            require_number(f'{where}.temperature', self.temperature, least=SMALL, most=LARGE)


@dataclass(frozen=True)
class Repair:
    """Tokens unlike all others take their neighbours' mean (SC-CLIP, anomaly resolving).

    Attributes:
        neighbours: of the local outlier factor (Breunig et al., 2000), on squared distances.
        quantile: in 0..1; a patch is an outlier if its factor lies above this share of them.
        reach: whose k-distance bounds a reach: the 'neighbour' (the definition), or the patch's
            'own' (as in the published code, which makes density the k-distance alone).
    """

    neighbours: int = 30
    quantile: float = 0.95
    reach: str = 'neighbour'

    def __post_init__(self):
        require_choice('readout.repair.reach', self.reach, ('neighbour', 'own'))
        require_number('readout.repair.quantile', self.quantile, least=0, most=1)
        require_number(
            'readout.repair.neighbours', self.neighbours, least=1, most=LARGE, whole=True
        )


@dataclass(frozen=True)
class Layers:
    """Patches gathered by how earlier blocks see them, and earlier blocks fused in (SC-CLIP).

    Attributes:
        before: block whose cosines gather the last block's input, and are the term
            'layer_similarity'.
        after: block whose cosines gather the last block's output.
        threshold: cosines below it count 0.
        fused: first and last of the blocks whose sum goes through the last block too; () for none.
    """

    before: int = 9
    after: int = 4
    threshold: float = 0.4
    fused: tuple[int, ...] = (4, 10)

    def __post_init__(self):
        for name in ('before', 'after'):
            require_number(f'readout.layers.{name}', getattr(self, name), **BLOCK)
        require_number('readout.layers.threshold', self.threshold, least=-1, most=1)
        if self.fused:
            require_pair('readout.layers.fused', self.fused, **BLOCKS)


@dataclass(frozen=True)
class Feedback:
    """A first answer's classes steer the attention of a second pass (ResCLIP, CVPR 2025).

    Attributes:
        threshold: probability below which a pixel's class is not believed.
        scale: logit scale of those probabilities.
        share: of the classes' map F in the scores: gain * ((1 - share) q k / sqrt(d) + share * F).
        gain: see there; only with F.
        unsure: pixels not believed belong to 'none', or to the 'first' class (published; the right
            one only where the first class is the background).
        line: a pair of one class counts less, the further it is, where its straight line leaves the
            class: 'whole' looks at all of the line, 'start' at the beginning of short ones
            (published code), 'none' does not look.
        smooth: the map is smoothed over the 'grid', or along the 'rows' one behind the other, over
            their ends (published code).
        half: the map is rounded to fp16 (published code).
        steps, dilations: of PAMR on the first answer; 0 steps for none.
    """

    threshold: float = 0.25
    scale: float = 40.0
    share: float = 0.7
    gain: float = 1.8
    unsure: str = 'none'
    line: str = 'whole'
    smooth: str = 'grid'
    half: bool = False
    steps: int = 10
    dilations: tuple[int, ...] = (8, 16)

    def __post_init__(self):
        require_choice('readout.feedback.unsure', self.unsure, ('none', 'first'))
        require_choice('readout.feedback.line', self.line, ('whole', 'start', 'none'))
        require_choice('readout.feedback.smooth', self.smooth, ('grid', 'rows'))
        require_number('readout.feedback.threshold', self.threshold, least=0, most=1)
        require_number('readout.feedback.share', self.share, least=0, most=1)
        for name in ('scale', 'gain'):
            require_number(f'readout.feedback.{name}', getattr(self, name), least=0, most=LARGE)
        require_number('readout.feedback.steps', self.steps, least=0, most=LARGE, whole=True)
        for value in self.dilations:
            require_number('readout.feedback.dilations', value, least=1, most=LARGE, whole=True)


@dataclass(frozen=True)
class Readout:
    """How the last block of a ViT is read out for every patch.

    Attributes:
        terms: attentions that are summed: 'value' (each patch its own value); 'q-k', 'q-q', 'k-k'
            and so on, softmax(a b / sqrt(d)) per head; 'layer_similarity', from the cosines of an
            earlier block; 'proxy', from the cosines of another network; 'early_attention', the mean
            of the
            plain attentions of `early_blocks`.
        weights: of the terms; () for 1 each.
        use_cls_token: the class token takes part in the attention.
        gaussian: sigma in patches of a neighbourhood exp(-d^2 / 2 sigma^2) added to the scores of
            the pairs of patches ('x-y' terms); 0 for none.
        residual: the block's input is added to what the attention gives.
        mlp: the block's MLP follows.
        cls_weight: share of the class token before the block that is added to each patch.
        margin, gain: of 'layer_similarity' and 'proxy': softmax(gain * (S - margin * mean S)) over
            what is not negative; a patch that has nothing left attends to itself.
        early_blocks: first and last of the blocks of the term 'early_attention'.
        self_self, repair, layers, feedback: see there; None is off.

    Raises:
        UserError: a value out of its range, an unknown term, or switches that exclude each other.
    """

    terms: tuple[str, ...] = ('value',)
    weights: tuple[float, ...] = ()
    use_cls_token: bool = True
    gaussian: float = 0.0
    residual: bool = True
    mlp: bool = True
    cls_weight: float = 0.0
    margin: float = 1.0
    gain: float = 3.0
    early_blocks: tuple[int, ...] = (6, 9)
    self_self: SelfSelf | None = None
    repair: Repair | None = None
    layers: Layers | None = None
    feedback: Feedback | None = None

    def __post_init__(self):
        for term in self.terms:
            require_choice('readout.terms', term, TERMS)
        if not self.terms:
            raise UserError(f'readout.terms is at least one of {", ".join(TERMS)}')
        require_pair('readout.early_blocks', self.early_blocks, **BLOCKS)
        if self.gaussian:
            require_number('readout.gaussian', self.gaussian, least=SMALL, most=LARGE)
        for name in ('cls_weight', 'margin', 'gain'):
            require_number(f'readout.{name}', getattr(self, name), least=-LARGE, most=LARGE)
        for value in self.weights:
            require_number('readout.weights', value, least=-LARGE, most=LARGE)
        if self.weights and len(self.weights) != len(self.terms):
            raise UserError(
                f'readout has {len(self.terms)} terms and {len(self.weights)} weights; '
                'give one for each, or () for 1 each'
            )
        patch_maps = {'layer_similarity', 'proxy'} & set(self.terms)
        if patch_maps and self.use_cls_token:
            raise UserError(
                f'the term {min(patch_maps)!r} knows patches only; set readout.use_cls_token=False'
            )
        if 'layer_similarity' in self.terms and self.layers is None:
            raise UserError(
                "the term 'layer_similarity' needs readout.layers, such as dict(before=9)"
            )
        if self.self_self and not all(a == b for a, _, b in map(tuple, self.terms)):
            raise UserError("self_self takes terms such as 'q-q', 'k-k' and 'v-v' alone")
        besides = [
            name for name in ('repair', 'layers', 'feedback', 'gaussian') if getattr(self, name)
        ]
        if self.self_self and besides:
            raise UserError(f'readout.self_self and readout.{besides[0]} exclude each other')
        if self.layers and self.use_cls_token:
            raise UserError('readout.layers gathers patches only; set readout.use_cls_token=False')
        self._require_pairs()

    def _require_pairs(self):
        """What changes the scores of pairs needs terms that have them."""
        pairs = PAIRS & set(self.terms)
        if self.feedback and not pairs:
            raise UserError("readout.feedback steers terms such as 'k-k'; there is none")
        if self.gaussian and not pairs:
            raise UserError("readout.gaussian is of terms such as 'k-k'; set it to 0")

    def pairs(self):
        """-> [('q', 'k', weight)] of the terms per head"""
        return [(term[0], term[2], w) for term, w in self.weighted() if term in PAIRS]

    def weighted(self):
        """-> [(term, weight)]"""
        return list(zip(self.terms, self.weights or (1.0,) * len(self.terms)))


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
