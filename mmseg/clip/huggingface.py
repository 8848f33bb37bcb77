"""Dual encoders of Hugging Face's transformers (TIPSv2, SigLIP, CLIP) as open_clip's models are.

The library reads the configs, weights, tokenizers and preprocessing. `DualEncoder` has its text
tower, and `ImageTower` is what `towers.build_tower` wraps.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.errors import UserError, require_packages
from mmseg.utils import hub_errors, in_checkout
from mmseg.utils.checkpoint import require_finite_state
from mmseg.utils.tensors import RGB

PREFIX = 'hf:'
FAMILIES = ('clip', 'metaclip_2', 'siglip', 'siglip2', 'tipsv2')  # transformers' model types
TEXT_INPUTS = ('input_ids', 'attention_mask')


class ImageTower(nn.Module):
    """The image tower of a dual encoder, with its projection if there is one.

    Attributes:
        network: transformers' vision model.
        image_size: pixels of a side, or (height, width).

    Raises:
        UserError: nothing pools the patches.
    """

    def __init__(self, model: Any, /) -> None:
        super().__init__()
        self.network = model.vision_model
        self.projection = getattr(model, 'visual_projection', nn.Identity())
        config = self.network.config
        if not getattr(config, 'vision_use_head', True):
            raise UserError(
                f'this {type(model).__name__} has no head that pools its patches, and so no image '
                'embedding; use one with vision_use_head'
            )
        if hasattr(config, 'num_patches'):  # SigLIP 2's, of any aspect ratio
            size = round(config.num_patches**0.5) * config.patch_size
        else:
            size = config.image_size
        self.image_size = size if isinstance(size, int) else tuple(size)


class DualEncoder(nn.Module):
    """A dual encoder with the interface of open_clip's models.

    Attributes:
        visual: the ImageTower.
    """

    def __init__(self, model: Any, /) -> None:
        super().__init__()
        self.visual = ImageTower(model)
        self.text_model = model.text_model
        self.text_projection = getattr(model, 'text_projection', nn.Identity())

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(S, 1 or 2, L) ids, and the mask if the tokenizer gives one -> (S, D)"""
        outputs = self.text_model(**dict(zip(TEXT_INPUTS, tokens.unbind(1))))
        return self.text_projection(outputs.pooler_output)


def read_dual_encoder(source: str) -> tuple[DualEncoder, tuple[RGB, RGB]]:
    """Read the weights of a dual encoder in fp32, and mean and std of its images.

    Args:
        source: 'hf:' and a name of the hub, or a folder that `save_pretrained` wrote.

    Raises:
        UserError: transformers is missing, an unknown name, another kind of model, or weights that
            do not fit.
    """
    transformers = import_transformers()
    name = _path_of(source)
    if not os.path.isdir(name):
        print(f'weights {source}: from the hub, or its cache', file=sys.stderr, flush=True)
    with _quiet(source):
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    _require_family(config, source)
    with _quiet(source):
        model, report = transformers.AutoModel.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,  # never a pickle
            trust_remote_code=False,
            output_loading_info=True,
        )
        images = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    if report['missing_keys']:
        raise UserError(
            f'{source} lacks weights of the {type(model).__name__} of transformers, such as '
            f"{sorted(report['missing_keys'])[0]}; use a repository in transformers' own layout"
        )
    require_finite_state(model.state_dict(), f'{source} holds', 'use other weights')
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if images.do_normalize:
        mean, std = tuple(images.image_mean), tuple(images.image_std)
    return DualEncoder(model).eval(), (mean, std)


def read_tokenizer(source: str) -> Any:
    """Load the tokenizer of a dual encoder."""
    name = _path_of(source)
    return import_transformers().AutoTokenizer.from_pretrained(name, trust_remote_code=False)


def _path_of(source: str) -> str:
    """Return the folder that 'hf:FOLDER' names, or the name on the hub."""
    return in_checkout(source.removeprefix(PREFIX))


def _require_family(config: Any, source: str) -> None:
    if not (hasattr(config, 'text_config') and hasattr(config, 'vision_config')):
        raise UserError(
            f'{source} is a {config.model_type}, without a text tower beside an image tower; use a '
            'dual encoder such as hf:google/tipsv2-b14'
        )
    if config.model_type not in FAMILIES:
        raise UserError(
            f'{source} is a {config.model_type}, whose image tower cannot be read out; of '
            f"transformers' models {', '.join(FAMILIES)} can"
        )


def import_transformers() -> Any:
    """Import transformers, an option."""
    require_packages(PREFIX, 'transformers', extra='transformers')
    import transformers

    return transformers


@contextmanager
def _quiet(source: str) -> Iterator[None]:
    """Run transformers without bars and logs, and turn its errors into one line."""
    from transformers.utils import logging as library

    had_bar = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    cure = f'check the name, or offline name a folder with its files as {PREFIX}FOLDER'
    try:
        with hub_errors(f'{source} could not be loaded', cure):
            yield
    finally:
        if had_bar:
            library.enable_progress_bar()
