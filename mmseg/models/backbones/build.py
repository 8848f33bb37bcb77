"""Backbones of students, with their ImageNet weights."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.utils import Fraction, describe_weights, nearest, validated
from mmseg.utils.checkpoint import create_with_weights, misfit, read_state

from ..build import builds
from ..checkpoints import to_mmseg
from .mit import MixVisionTransformer
from .timm_backbone import TimmBackbone

logger = logging.getLogger(__name__)
FINEST, LEVELS = 4, 4  # pixels per cell, and number, of the outputs that heads are made for


@builds(MixVisionTransformer)
@validated
def build_mit(
    size: Literal['b0', 'b1', 'b2', 'b3', 'b4', 'b5'],
    *,
    pretrained: str | Path | Literal[False] | None = None,
    drop_path: Fraction = 0.1,
) -> MixVisionTransformer:
    """Build a MixVisionTransformer.

    Args:
        pretrained: a file of weights in any of `to_mmseg`'s layouts; None starts from scratch and
            says so; False starts from scratch because a checkpoint follows.
        size, drop_path: see `MixVisionTransformer`.
    """
    network = MixVisionTransformer(size, drop_path=drop_path)
    _load_imagenet(network, pretrained, f'MiT-{size}', rename=to_mmseg)
    return network


@builds(TimmBackbone)
@validated
def build_timm_backbone(
    model: str,
    *,
    pretrained: str | Path | bool | None = None,
    prefix: str = '',
    out_indices: Sequence[int] | None = None,
    output_stride: Literal[8, 16, 32] = 32,
    frozen: bool = False,
) -> TimmBackbone:
    """Build a TimmBackbone of a timm model's features.

    Args:
        pretrained: True for timm's own weights (those in `pretrain`, or else from the network), a
            file, None to start from scratch, False if a checkpoint follows.
        prefix: what the names in the file start with; the others are left out.
        out_indices: outputs to keep, numbered as in timm; None for the last four with at least 4
            pixels per cell.
        output_stride: pixels per cell of the last output.
        frozen: train the head alone, see `TimmBackbone`.
    """
    if not timm.is_model(model):
        raise UserError(f'timm has no model {model!r}{nearest(model, timm.list_models())}')
    options: dict[str, Any] = dict(features_only=True)
    if output_stride != 32:
        options['output_stride'] = output_stride
    options['out_indices'] = tuple(
        _coarse_outputs(model, options) if out_indices is None else out_indices
    )
    body: Any
    if pretrained is True:
        body = create_with_weights(model, **options)
    else:
        body = timm.create_model(model, **options)
        _load_imagenet(body, pretrained, model, prefix)
    finest = min(body.feature_info.reduction())
    if finest < FINEST:
        logger.warning(
            '%s: out_indices=%s keeps an output with a cell every %d pixels, so time and memory of '
            'the head are about %d times those of the default, the last four with a cell every 4 '
            'or more',
            *(model, options['out_indices'], finest, (FINEST // finest) ** 2),
        )
    return TimmBackbone(body, frozen=frozen)


def _coarse_outputs(model: str, options: dict[str, Any]) -> list[int]:
    """List the last four outputs of a timm model with at least 4 pixels per cell."""
    with torch.device('meta'):  # its sizes, without its weights
        info: Any = timm.create_model(model, **options).feature_info
    levels = zip(info.out_indices, info.reduction())
    return [index for index, stride in levels if stride >= FINEST][-LEVELS:]


def _load_imagenet(
    network: nn.Module,
    file: str | Path | bool | None,
    name: str,
    prefix: str = '',
    rename: Callable[..., dict[str, Tensor]] | None = None,
) -> None:
    """Load a file of ImageNet weights; without one, warn that training starts from scratch"""
    if isinstance(file, bool):
        return
    if file is None:
        logger.warning('%s starts FROM SCRATCH: no ImageNet weights are named (pretrained)', name)
        return
    state = {k.removeprefix(prefix): v for k, v in read_state(file).items() if k.startswith(prefix)}
    if rename is not None:
        state = rename(state, file)
    needed = network.state_dict()
    reason = misfit(needed, {key: tensor for key, tensor in state.items() if key in needed})
    if reason:
        raise UserError(f'{file} does not fit {name}: it is {describe_weights(state)}; {reason}')
    network.load_state_dict({key: state[key] for key in needed})
