"""Switches of the readout of a ViT's last block. A published method is a set of them.

Blocks are numbered from 1, as in a tower of twelve. In a tower of L blocks, block b is block
round(b * L / 12), at least the first and never the last.
"""

import typing
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

from annotated_types import Interval

from mmseg.errors import UserError
from mmseg.utils import Fraction, require_fields

DEPTH = 12  # blocks of the tower that block numbers refer to
LARGE = 10**6  # larger values overflow somewhere
Block = Annotated[int, Interval(ge=1, le=DEPTH)]
Blocks = tuple[Block, Block]  # the first and the last of some
Times = Annotated[int, Interval(ge=0, le=LARGE)]
Many = Annotated[int, Interval(ge=1, le=LARGE)]
Strength = Annotated[float, Interval(ge=0, le=LARGE)]
Weight = Annotated[float, Interval(ge=-LARGE, le=LARGE)]
Divisor = Annotated[float, Interval(ge=1e-3, le=LARGE)]
# fmt: off
Term = Literal[
    'value',
    'q-q', 'q-k', 'q-v', 'k-q', 'k-k', 'k-v', 'v-q', 'v-k', 'v-v',
    'layer_similarity', 'proxy', 'early_attention',
]
# fmt: on
PAIRS = {term for term in typing.get_args(Term) if len(term) == 3}


class Switches:
    """Base of the dataclasses below. It checks every field against its annotation."""

    path: ClassVar[str]

    def __post_init__(self) -> None:
        require_fields(self.path, self)


@dataclass(frozen=True)
class SelfSelf(Switches):
    """Iterated self-self attention on unit vectors, in the last blocks (GEM, CVPR 2024).

    Attributes:
        blocks: number of last blocks, of twelve. Each adds to a stream without MLPs.
        iterations: how often queries (or keys, or values) are replaced by their attended mean.
        temperature: multiplies the cosines before the softmax: larger is sharper. None: mean length
            of the block's normed input / sqrt(d).
    """

    path = 'readout.self_self'
    blocks: Block = 6
    iterations: Times = 1
    temperature: Divisor | None = None


@dataclass(frozen=True)
class Repair(Switches):
    """Anomalous tokens take the mean of their neighbours (SC-CLIP, section 3.2).

    Attributes:
        neighbours: of the local outlier factor (Breunig et al., 2000) on squared distances.
        quantile: a patch is anomalous if its factor lies above this quantile of its image.
        reach: reachability distances are bounded by the k-distance of the 'neighbour' (the
            definition) or of the 'patch' (published code: density is then the k-distance alone).
    """

    path = 'readout.repair'
    neighbours: Many = 30
    quantile: Fraction = 0.95
    reach: Literal['neighbour', 'patch'] = 'neighbour'


@dataclass(frozen=True)
class Layers(Switches):
    """Similarities of earlier blocks adjust the last block, and earlier blocks join it (SC-CLIP).

    Attributes:
        before: block whose cosines average the last block's input. They are also the term
            'layer_similarity'.
        after: block whose cosines average the last block's output.
        threshold: cosines below it count as 0.
        fused: first and last of the blocks whose summed outputs pass through the last block too.
            None for no such blocks.
    """

    path = 'readout.layers'
    before: Block = 9
    after: Block = 4
    threshold: Annotated[float, Interval(ge=-1, le=1)] = 0.4
    fused: Blocks | None = (4, 10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fused:
            _require_order(f'{self.path}.fused', self.fused)


@dataclass(frozen=True)
class Feedback(Switches):
    """The classes of a first pass guide the attention of a second pass (ResCLIP, CVPR 2025).

    The scores become gain * ((1 - weight) * q k / sqrt(d) + weight * F), with the affinity F of
    `class_affinity`.

    Attributes:
        threshold: pixels whose probability is lower are uncertain.
        scale: logit scale of these probabilities.
        weight: of the affinity F in the scores.
        gain: of the scores.
        unsure: uncertain pixels belong to 'none', or to the 'first' class (published code, right
            only where the first class is the background).
        line: the affinity of two patches decays with distance where the line between them leaves
            their class. 'whole' samples all of the line. 'start' samples only its beginning where
            the line is short (published code).
        smooth: smooth the affinity over the 'grid', or along the row-major index ('rows'), across
            the ends of rows (published code).
        half: round the affinity to fp16 (published code).
        steps, dilations: of PAMR on the scores of the first pass. 0 steps: no PAMR.
    """

    path = 'readout.feedback'
    threshold: Fraction = 0.25
    scale: Strength = 40.0
    weight: Fraction = 0.7
    gain: Strength = 1.8
    unsure: Literal['none', 'first'] = 'none'
    line: Literal['whole', 'start'] = 'whole'
    smooth: Literal['grid', 'rows'] = 'grid'
    half: bool = False
    steps: Times = 10
    dilations: tuple[Many, ...] = (8, 16)


@dataclass(frozen=True)
class Readout(Switches):
    """Settings of the readout of a ViT's last block for every patch.

    Attributes:
        terms: attentions that are summed. 'value': each patch attends to itself (MaskCLIP). 'q-k',
            'q-q', 'k-k' and so on: softmax(a b / sqrt(d)) per head. 'layer_similarity': from the
            cosines of an earlier block. 'proxy': from the cosines of another network.
            'early_attention': the mean attention of `early_blocks`.
        weights: of the terms. () for 1 each.
        use_cls_token: the class token takes part in the attention.
        gaussian: sigma, in patches, of a neighbourhood exp(-d^2 / 2 sigma^2) that is added to the
            scores of pairs such as 'k-k'. None for none.
        residual: add the block's input to the attention's output.
        mlp: apply the block's MLP.
        cls_weight: add the class token before the block to each patch, with this weight.
        margin, gain: of 'layer_similarity' and 'proxy', not of pairs such as 'k-k'; see
            `similarity_attention`.
        early_blocks: first and last of the blocks of the term 'early_attention'.
        self_self, repair, layers, feedback: see these classes. None for off.

    Raises:
        UserError: a value of the wrong type or range, or switches that exclude each other.
    """

    path = 'readout'
    terms: tuple[Term, ...] = ('value',)
    weights: tuple[Weight, ...] = ()
    use_cls_token: bool = True
    gaussian: Divisor | None = None
    residual: bool = True
    mlp: bool = True
    cls_weight: Weight = 0.0
    margin: Weight = 1.0
    gain: Weight = 3.0
    early_blocks: Blocks = (6, 9)
    self_self: SelfSelf | None = None
    repair: Repair | None = None
    layers: Layers | None = None
    feedback: Feedback | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_order('readout.early_blocks', self.early_blocks)
        self._require_compatible()

    def _require_compatible(self) -> None:
        terms, weights = self.terms, self.weights
        of_patches = {'layer_similarity', 'proxy'} & set(terms)
        pairs = PAIRS & set(terms)
        names = ('repair', 'layers', 'feedback', 'gaussian')
        others = [name for name in names if getattr(self, name)]
        symmetric = all(term[0] == term[-1] for term in pairs) and pairs == set(terms)
        problems = (
            (not terms, 'readout.terms is empty; name at least one'),
            (
                weights and len(weights) != len(terms),
                f'readout has {len(terms)} terms and {len(weights)} weights; give each a weight, '
                'or () for 1 each',
            ),
            (
                of_patches and self.use_cls_token,
                f'the term {min(of_patches, default="")!r} has no class token; set '
                'readout.use_cls_token=False',
            ),
            (
                'layer_similarity' in terms and not self.layers,
                "the term 'layer_similarity' needs readout.layers, such as dict(before=9)",
            ),
            (
                self.layers and self.use_cls_token,
                'readout.layers averages patches only; set readout.use_cls_token=False',
            ),
            (
                self.self_self and not symmetric,
                "readout.self_self takes terms such as 'q-q', 'k-k' and 'v-v' only",
            ),
            (
                self.self_self and others,
                f'readout.self_self and readout.{"".join(others[:1])} exclude each other',
            ),
            (self.feedback and not pairs, "readout.feedback needs a term such as 'k-k'"),
            (self.gaussian and not pairs, "readout.gaussian needs a term such as 'k-k'"),
        )
        for wrong, message in problems:
            if wrong:
                raise UserError(message)

    def weighted_terms(self) -> list[tuple[str, float]]:
        """Pair each term with its weight."""
        return list(zip(self.terms, self.weights or (1.0,) * len(self.terms)))

    def weighted_pairs(self) -> list[tuple[str, str, float]]:
        """List the terms per head: 'q-k' of weight 2 is ('q', 'k', 2)."""
        return [(term[0], term[2], w) for term, w in self.weighted_terms() if term in PAIRS]


class BlocksNeeded(NamedTuple):
    """Blocks of a tower, numbered from 1, of which a readout needs more than the last output.

    Attributes:
        outputs: blocks whose outputs are kept. 0 is the input of the first block.
        attentions: blocks whose attention is averaged.
    """

    outputs: frozenset[int]
    attentions: frozenset[int]


def blocks_needed(readout: Readout, depth: int) -> BlocksNeeded:
    """Tell which blocks of a tower of `depth` blocks a readout needs."""
    outputs: set[int] = set()
    attentions: set[int] = set()
    if readout.layers:
        layers = readout.layers
        outputs = {block_number(layers.before, depth), block_number(layers.after, depth)}
        outputs.update(block_numbers(layers.fused, depth))
    if readout.self_self:
        count = max(1, min(round(readout.self_self.blocks * depth / DEPTH), depth))
        outputs = set(range(depth - count, depth))
    if 'early_attention' in readout.terms:
        attentions = set(block_numbers(readout.early_blocks, depth))
    return BlocksNeeded(frozenset(outputs), frozenset(attentions))


def block_number(block: int, depth: int) -> int:
    """Convert the number of a block of twelve to a tower of `depth` blocks, without its last."""
    return max(1, min(round(block * depth / DEPTH), depth - 1))


def block_numbers(ends: tuple[int, int] | None, depth: int) -> list[int]:
    """Convert (first, last) of twelve to all blocks between them in a tower of `depth` blocks."""
    if not ends:
        return []
    return list(range(block_number(ends[0], depth), block_number(ends[1], depth) + 1))


def _require_order(name: str, ends: tuple[int, int]) -> None:
    if ends[0] > ends[1]:
        raise UserError(f'{name} is (first, last), not {ends!r}')
