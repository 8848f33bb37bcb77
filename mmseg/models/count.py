from typing import NamedTuple


class ParameterCounts(NamedTuple):
    """Attributes:
    trained: what the optimizer moves.
    teacher: the frozen tower's, less what the dense path does not read.
    prior_encoder: the frozen tower's behind a class weight on the student, 0 where there is none.
    original: trained + teacher as the original implementation counts, which is what was published:
        its SegFormer head carries a classifier that it never uses.
    """

    trained: int
    teacher: int
    prior_encoder: int
    original: int


def count_parameters(model) -> ParameterCounts:
    """MaskClipPlus -> ParameterCounts"""
    head = model.decode_head
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    teacher, prior_encoder = (
        _numel(model.frozen.get(name)) for name in ('teacher', 'prior_encoder')
    )
    spare = head.conv_seg.num_classes * (head.channels + 1) if head.spare_in_original else 0
    return ParameterCounts(trained, teacher, prior_encoder, trained + teacher + spare)


def _numel(module):
    if module is None:
        return 0
    unread = 'attnpool.positional_embedding'  # a ResNet's, by the pooling alone
    return sum(p.numel() for name, p in module.named_parameters() if not name.endswith(unread))
