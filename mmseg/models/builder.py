"""From a config to a model: the only place of `models` that reads files (weights, text)."""

from pathlib import Path

import numpy as np
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
from mmseg.utils import nearest, require_keys
from mmseg.vocabularies import load_vocabulary

from .class_weight import ClassWeight
from .decode_heads import MaskClipHead
from .refine import LOGIT_SCALE
from .scoring import SYNONYMS, Scoring
from .segmentors import MaskClip
from .text_classifier import TextClassifier
from .windows import Windows


@MODELS.register_module(name='MaskClip')
def build_maskclip(
    backbone,
    decode_head,
    vocabulary,
    *,
    class_weight=None,
    resize_twice=False,
    windows=None,
    scoring=None,
    post=None,
):
    """Config of the model `MaskClip` -> MaskClip.

    Args:
        backbone: see `build_extractor`.
        decode_head: see `build_head`.
        vocabulary: name, file or list of classes; filled in from the config's own `vocabulary`.
        class_weight: see `build_class_weight`; None for none.
        resize_twice: see `MaskClip`.
        windows: see `Windows`; None for the whole input in one piece.
        scoring: see `build_scoring`; None for the defaults.
        post: PAMR or Superpixels, or a list of both; None for none.
    """
    clip, extractor = build_part(build_extractor, 'model.backbone', backbone)
    return assemble_maskclip(
        clip,
        extractor,
        decode_head,
        load_vocabulary(vocabulary),
        class_weight=class_weight,
        resize_twice=resize_twice,
        windows=windows,
        scoring=scoring,
        post=post,
    )


def assemble_maskclip(
    clip,
    extractor,
    decode_head,
    vocabulary,
    *,
    class_weight=None,
    resize_twice=False,
    windows=None,
    scoring=None,
    post=None,
    background=0,
):
    """What `build_extractor` gave, and the rest of `build_maskclip` -> MaskClip; no copies.

    Args:
        background: how many of the last classes are one together, the background.
    """
    queries, scoring = build_part(
        build_scoring, 'model.scoring', scoring or {}, vocabulary, background, decode_head
    )
    weight, weigher = None, None
    if class_weight is not None:
        weight, weigher = build_part(
            build_class_weight, 'class_weight', class_weight, clip, queries, scoring.groups
        )
    head = build_part(build_head, 'model.decode_head', decode_head, clip, queries, weight)
    return MaskClip(
        extractor,
        head,
        weigher=weigher,
        resize_twice=resize_twice,
        weigher_view=(class_weight or {}).get('view', 'clip'),
        windows=None if windows is None else build_part(Windows, 'model.windows', windows),
        scoring=scoring,
        post=build_post(post),
    )


def build_scoring(
    vocabulary,
    background,
    decode_head,
    *,
    synonyms='mean',
    scale=LOGIT_SCALE,
    prob_thd=0.0,
    area_thd=0.0,
):
    """Config of the scoring -> Vocabulary of the queries, Scoring.

    Args:
        synonyms: of a class: 'mean' makes one query of all of them, 'max' one of each, the best of
            which is the class's score.
        scale, prob_thd, area_thd: see `Scoring`. The background is the class of this name.
    """
    if synonyms not in SYNONYMS:
        raise UserError(f'scoring.synonyms is one of {", ".join(SYNONYMS)}, not {synonyms!r}')
    queries, groups = vocabulary, None
    if synonyms == 'max' and any(len(prompts) > 1 for prompts in vocabulary.prompts):
        queries, groups = vocabulary.by_prompt()
    behind = vocabulary.labels.index('background') if 'background' in vocabulary.labels else None
    if background:
        behind = len(vocabulary) - background
        groups = tuple(min(group, behind) for group in groups or range(len(vocabulary)))
    if isinstance(decode_head, dict) and decode_head.get('ks_thresh'):
        scale = None  # key smoothing gives probabilities
    return queries, Scoring(groups, behind, scale, prob_thd, area_thd)


build_scoring.not_from_config = {'vocabulary', 'background', 'decode_head'}


def build_post(post):
    """None, a config or a list of them -> the modules of post-processing"""
    if post is None:
        return []
    parts = []
    for config in post if isinstance(post, (list, tuple)) else [post]:
        if not isinstance(config, dict) or 'type' not in config:
            raise UserError(f"model.post is such as dict(type='PAMR'), not {config!r}")
        parts.append(build_part(None, 'model.post', config))
        if not hasattr(parts[-1], 'acts_on'):
            raise UserError(
                f'model.post: {config["type"]} is no post-processing; use PAMR or Superpixels'
            )
    return parts


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
        extractor.proxy.say_how_it_sees(extractor.tower.stride)
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
    view='clip',
    view_size=224,
    weigher=None,
    usual=None,
    always=(),
    **options,
):
    """Config of the class weight -> ClassWeight, and the extractor behind it or None.

    Args:
        text: see `build_text`; the weigher's own embeddings.
        view: 'clip' for CLIP's 224 crop of the photo, 'image' for the input that is segmented.
        view_size: pixels of that crop, for weighers of another size; the data sets cut it.
        weigher: another CLIP, as `build_extractor` reads it or as it gave it; None for the
            backbone's own.
        usual: see `ClassWeight`; also a .npy file of tools/analysis/usual_cosines.py.
        always: labels, see `ClassWeight`.
        options: see `ClassWeight`.
    """
    if view not in ('clip', 'image'):
        raise UserError(f"class_weight.view is 'clip' or 'image', not {view!r}")
    extractor = None
    if weigher is not None:
        if not isinstance(weigher, tuple):
            weigher = build_part(build_extractor, 'class_weight.weigher', weigher)
        clip, extractor = weigher
    if not clip.can_pool:
        raise UserError(
            f"{clip.source} lacks the attention pool's position embeddings, so it has no "
            'image-level embedding for a class weight; use a complete CLIP as the weigher'
        )
    rows = build_part(build_text, 'text', text, clip, vocabulary)
    if isinstance(usual, (str, Path)):
        usual = _read_usual(usual)
    always = [i for label in always for i in vocabulary.ids_of(label)]
    weight = ClassWeight(rows, usual=usual, always=always, groups=groups, **options)
    return weight, extractor


build_class_weight.options_of = ClassWeight
build_class_weight.not_from_config = {'clip', 'vocabulary', 'groups'}


def _read_usual(path):
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f'class_weight.usual {path} cannot be read as .npy; make it with '
            'tools/analysis/usual_cosines.py'
        ) from error


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


def build_part(default, where, config, *given):
    """Call the builder that a part's `type` names, or the default one, with its checked settings.

    Raises:
        UserError: no such type among the models, an unknown key, or a missing one.
    """
    if not isinstance(config, dict):
        raise UserError(f'{where} is a dict of settings, not {config!r}')
    builder = MODELS.get(config['type']) if 'type' in config else default
    if builder is None:
        raise UserError(
            f'{where}: no model part is called {config["type"]!r}'
            f'{nearest(config["type"], MODELS.module_dict)}'
        )
    require_keys(config, builder, where)
    return builder(*given, **without_type(config))


def without_type(config):
    """A part's settings without its `type`."""
    return {key: value for key, value in config.items() if key != 'type'}
