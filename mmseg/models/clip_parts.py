"""From a config to the parts of CLIP that a model is made of: weights and text are read here."""

from pathlib import Path

import torch
from torch import nn

from mmseg.clip import (
    CLIPDenseExtractor,
    load_clip,
    load_proxy,
    read_text_embeddings,
    text_embeddings,
)
from mmseg.clip.readout import readout_of
from mmseg.errors import UserError
from mmseg.registry import MODELS
from mmseg.utils import nearest, require_choice, require_number
from mmseg.utils.checkpoint import read_file

from .class_weight import ClassWeight
from .decode_heads import MaskClipHead
from .part import build_part
from .text_classifier import TextClassifier


@MODELS.register_module(name='CLIPDenseExtractor')
def build_extractor(
    model,
    pretrained,
    *,
    act=None,
    norm_eps=None,
    mean=None,
    std=None,
    project_keys=False,
    pad=True,
    readout='maskclip',
    positions='size',
    proxy=None,
):
    """Config of a CLIP backbone -> (LoadedCLIP, CLIPDenseExtractor).

    Args:
        model, pretrained: see `mmseg.clip.load_clip`.
        act: 'gelu' puts plain GELU into the image tower (the original's, Q3); None keeps CLIP's.
        norm_eps: epsilon of the image tower's LayerNorms; None keeps CLIP's 1e-5.
        mean, std: RGB in 0..1; None takes the CLIP's own.
        project_keys, pad, positions: see `CLIPDenseExtractor`.
        readout: a preset's name, or a dict of switches, see `mmseg.clip.readout.readout_of`.
        proxy: see `mmseg.clip.load_proxy`, for a readout with the term 'proxy'.
    """
    if norm_eps is not None:
        require_number('model.backbone.norm_eps', norm_eps, 1e-12, 1)
    clip = load_clip(model, pretrained)
    if act is not None:
        _replace_activation(clip.model.visual, act)
    for module in clip.model.visual.modules():
        if norm_eps is not None and isinstance(module, nn.LayerNorm):
            module.eps = norm_eps
    readout = readout_of(readout)
    extractor = CLIPDenseExtractor(
        clip.model.visual,
        mean=mean or clip.mean,
        std=std or clip.std,
        project_keys=project_keys,
        pad=pad,
        readout=readout,
        positions=positions,
        proxy=None if proxy is None else build_part(load_proxy, 'model.backbone.proxy', proxy),
        refine=_refinement(readout.feedback),
    )
    if extractor.proxy is not None:
        extractor.proxy.warn_of_resizing(extractor.tower.stride)
    return clip, extractor


def _refinement(feedback):
    """Of the first answer of a readout with feedback, or None"""
    if feedback is None or not feedback.steps:
        return None
    config = dict(type='PAMR', steps=feedback.steps, dilations=feedback.dilations)
    return build_part(None, 'model.backbone.readout.feedback', config)


@MODELS.register_module(name='MaskClipHead')
def build_head(clip, vocabulary, class_weight=None, *, text, **options):
    """Config of the head -> MaskClipHead; `text` is `build_text`'s, the rest is the head's own."""
    rows = build_part(build_text, 'text', text, clip, vocabulary)
    return MaskClipHead(TextClassifier(rows, normalize=True), class_weight, **options)


build_head.options_of = MaskClipHead  # whose keys a config may use besides `text`
build_head.not_from_config = {'clip', 'vocabulary', 'classifier', 'class_weight'}


@MODELS.register_module(name='ClassWeight')
def build_class_weight(
    clip,
    vocabulary,
    groups=None,
    *,
    text,
    crop='clip',
    crop_size=224,
    prior_encoder=None,
    mean_similarity=None,
    keep=(),
    **options,
):
    """Config of the class weight -> ClassWeight, and the extractor behind it or None.

    Args:
        text: see `build_text`; the prior_encoder's own embeddings.
        crop: 'clip' for CLIP's 224 crop of the photo, 'image' for the input that is segmented.
        crop_size: pixels of that crop, for prior encoders of another size; the data sets cut it.
        prior_encoder: another CLIP, as `build_extractor` reads it or as it gave it; None for the
            backbone's own.
        mean_similarity: see `ClassWeight`; also a .npy file of tools/analysis/mean_similarity.py.
        keep: labels, see `ClassWeight`.
        options: see `ClassWeight`.
    """
    require_choice('class_weight.crop', crop, ('clip', 'image'))
    require_number('class_weight.crop_size', crop_size, 1, whole=True)
    extractor = None
    if prior_encoder is not None:
        if not isinstance(prior_encoder, tuple):
            prior_encoder = build_part(build_extractor, 'class_weight.prior_encoder', prior_encoder)
        clip, extractor = prior_encoder
    if not clip.can_pool:
        raise UserError(
            f"{clip.source} lacks the attention pool's position embeddings, so it has no "
            'image-level embedding for a class weight; use a complete CLIP as the prior_encoder'
        )
    rows = build_part(build_text, 'text', text, clip, vocabulary)
    if isinstance(mean_similarity, (str, Path)):
        mean_similarity = _read_usual(mean_similarity)
    keep = [i for label in keep for i in vocabulary.ids_of(label)]
    weight = ClassWeight(rows, mean_similarity=mean_similarity, keep=keep, groups=groups, **options)
    return weight, extractor


build_class_weight.options_of = ClassWeight
build_class_weight.not_from_config = {'clip', 'vocabulary', 'groups'}


def _read_usual(path):
    cure = 'make it with tools/analysis/mean_similarity.py'
    mean_similarity = read_file(path, cure=cure)
    if not torch.is_tensor(mean_similarity):
        raise UserError(f'class_weight.mean_similarity {path} holds no single array; {cure}')
    return mean_similarity


def build_text(clip, vocabulary, *, templates='maskclip85', file=None, renormalize=True):
    """Config of text embeddings -> (C, D): read from `file`, or computed and cached.

    Args:
        templates: a name of `mmseg.vocabularies.TEMPLATES` or a list of sentences with {}.
        file: .pth, .npy or .safetensors; its rows are taken as they are.
        renormalize: see `mmseg.clip.embed_prompts`.
    """
    if file is not None:
        return read_text_embeddings(file, vocabulary, dim=clip.embed_dim if clip else None)
    return text_embeddings(clip, vocabulary, templates, renormalize=renormalize)


build_text.not_from_config = {'clip', 'vocabulary'}


def _replace_activation(visual, act):
    known = {'gelu': nn.GELU}
    if act not in known:
        raise UserError(f'act {act!r} is not known{nearest(act, known)}; known: {", ".join(known)}')
    for block in visual.transformer.resblocks:
        block.mlp.gelu = known[act]()
