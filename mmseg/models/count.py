from typing import Any, NamedTuple

from torch import nn

from .maskclip_plus import MaskClipPlus


class ParameterCounts(NamedTuple):
    """Numbers of parameters of a student and its frozen towers.

    Attributes:
        trained: those that the optimizer updates.
        teacher: those of the teacher that dense features use.
        prior_encoder: of the class weight on the student, 0 if there is none.
        original: trained + teacher as the original implementation counts (and published): its
            SegFormer head has a classifier that it never uses.
    """

    trained: int
    teacher: int
    prior_encoder: int
    original: int


def count_parameters(model: MaskClipPlus) -> ParameterCounts:
    """Count the parameters of a student."""
    head, weight = model.decode_head, model.class_weight
    classifier: Any = head.conv_seg
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    teacher = _numel(model.frozen.get('teacher'))
    encoder = _numel(None if weight is None else weight.frozen.get('encoder'))
    spare = len(classifier.embeddings) * (head.channels + 1) if head.spare_in_original else 0
    return ParameterCounts(trained, teacher, encoder, trained + teacher + spare)


def _numel(module: nn.Module | None) -> int:
    if module is None:
        return 0
    unread = 'attnpool.positional_embedding'  # a ResNet's, by the pooling alone
    return sum(p.numel() for name, p in module.named_parameters() if not name.endswith(unread))
