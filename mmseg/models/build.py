"""From configs to modules.

`build` looks up the class that a `type` names. The function `@builds(TheClass)`, if there is one,
turns the config's values into what the class takes. Parameters before `/` come from the caller; all
others are the keys of a config, and their annotations say what values they may have.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from mmengine.registry import Registry
from torch import Tensor, nn

from mmseg.clip import (
    CLIPDenseExtractor,
    LoadedCLIP,
    load_clip,
    load_proxy,
    read_text_embeddings,
    text_embeddings,
)
from mmseg.clip.readout import readout_of
from mmseg.errors import UserError
from mmseg.registry import MODELS
from mmseg.utils import Builds, Count, Fraction, Settings, nearest, require_keys, validated
from mmseg.utils.checkpoint import read_file
from mmseg.vocabularies import Vocabulary, load_vocabulary

from .checkpoints import load_student, read_student
from .class_weight import ClassWeight
from .decode_heads import MaskClipHead
from .maskclip import MaskClip
from .maskclip_plus import Channels, MaskClipPlus
from .postprocess import LOGIT_SCALE, Scale, Scoring
from .refine import PAMR
from .resize import Windows
from .robust_loss import RobustLoss
from .student_file import require_same_training
from .text_classifier import TextClassifier, class_rows

BUILDERS: dict[Any, Callable[..., Any]] = {}
Labels = str | Path | Sequence[str]  # a vocabulary's name, its file, or its classes
CLIP = tuple[LoadedCLIP, CLIPDenseExtractor]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def builds(cls: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate the function that builds a class from a config; register the class by its name."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        BUILDERS[cls] = function
        MODELS.register_module(module=cls)
        return function

    return register


def build(
    config: Settings,
    *arguments: Any,
    default: Callable[..., Any] | None = None,
    where: str = 'model',
) -> Any:
    """Build what a config's `type` names, or else `default`.

    Args:
        config: the arguments, with or without `type`.
        arguments: the positional arguments of the builder.
        where: the config's path, for messages.

    Raises:
        UserError: no such type, an unknown key, or a missing one.
    """
    if not isinstance(config, dict):
        raise UserError(f'{where} is a dict of settings, not {config!r}')
    kind = config.get('type', default)
    built = MODELS.get(kind) if isinstance(kind, str) else kind if callable(kind) else None
    if built is None:
        hint = nearest(str(kind), MODELS.module_dict)
        raise UserError(f'{where}: no model part is called {kind!r}{hint}')
    builder = BUILDERS.get(built, built)
    require_keys(config, builder, where, options_of=built)
    return builder(*arguments, **without_type(config))


def build_optional(
    config: Settings | None, *arguments: Any, default: Callable[..., Any], where: str
) -> Any:
    """Call `build`; return None for None."""
    return None if config is None else build(config, *arguments, default=default, where=where)


def build_registered(config: Settings, *arguments: Any, registry: Registry) -> Any:
    """Call `build` for `MODELS.build`, which passes its registry too."""
    return build(config, *arguments)


MODELS.build_func = build_registered  # in place of `mmseg.registry._build_model`


def without_type(config: Settings) -> dict[str, Any]:
    """Return the settings without `type`."""
    return {key: value for key, value in config.items() if key != 'type'}


# MaskCLIP


@builds(MaskClip)
def build_maskclip(
    clip: CLIP | None = None,
    prior: CLIP | None = None,
    background: int = 0,
    /,
    *,
    backbone: Annotated[Settings, Builds(CLIPDenseExtractor), MODELS],
    decode_head: Annotated[Settings, Builds(MaskClipHead), MODELS],
    vocabulary: Labels,
    class_weight: Annotated[Settings, Builds(ClassWeight), MODELS] | None = None,
    windows: Annotated[Settings, Builds(Windows)] | None = None,
    scoring: Annotated[Settings, Builds(Scoring)] | None = None,
    post: Annotated[Settings, MODELS] | Sequence[Annotated[Settings, MODELS]] | None = None,
    resize_twice: bool = False,
) -> MaskClip:
    """Build a MaskClip. Each nested dict is read by the builder of its class.

    Args:
        clip, prior: results of `build_extractor`, in place of `backbone` and of the class
            weight's `prior_encoder`; they are not copied.
        background: how many of the last classes together are the background.
        vocabulary: name, file or list of classes; filled in from the config's own `vocabulary`.
        post: PAMR or Superpixels, or a list of both.
    """
    if clip is None:
        clip = build(backbone, default=CLIPDenseExtractor, where='model.backbone')
    loaded, extractor = clip
    words = load_vocabulary(vocabulary)
    arguments: tuple[Any, ...] = (words, background, decode_head)
    queries, rules = build(scoring or {}, *arguments, default=Scoring, where='model.scoring')
    head = build(decode_head, loaded, queries, default=MaskClipHead, where='model.decode_head')
    arguments = (loaded, queries, rules.groups, prior)
    weight = build_optional(class_weight, *arguments, default=ClassWeight, where='class_weight')
    return MaskClip(
        extractor,
        head,
        weight,
        windows=build_optional(windows, default=Windows, where='model.windows'),
        scoring=rules,
        post=build_post(post),
        resize_twice=resize_twice,
    )


@builds(CLIPDenseExtractor)
@validated
def build_extractor(
    *,
    pretrained: str | Path | None,
    model: str | Settings | None = None,
    act: Literal['gelu'] | None = None,
    norm_eps: Annotated[float, Interval(ge=1e-12, le=1)] | None = None,
    mean: Channels | None = None,
    std: Channels | None = None,
    project_keys: bool = False,
    pad: bool = True,
    readout: str | Settings = 'maskclip',
    positions: Literal['size', 'factor', 'antialias'] = 'size',
    proxy: Annotated[Settings, Builds(load_proxy)] | None = None,
) -> CLIP:
    """Load a CLIP (see `load_clip`), and make the CLIPDenseExtractor around its image tower.

    Args:
        act: 'gelu' puts plain GELU into the image tower (the original's, Q3); None keeps CLIP's.
        norm_eps: epsilon of the image tower's LayerNorms; None keeps CLIP's 1e-5.
        mean, std: RGB in 0..1; None takes CLIP's own.
    """
    clip = load_clip(model, pretrained)
    visual = clip.model.visual
    if act == 'gelu':
        for block in visual.transformer.resblocks:
            block.mlp.gelu = nn.GELU()
    for module in visual.modules():
        if norm_eps is not None and isinstance(module, nn.LayerNorm):
            module.eps = norm_eps
    switches, refine = readout_of(readout), None
    if switches.feedback is not None and switches.feedback.steps:
        refine = PAMR(steps=switches.feedback.steps, dilations=switches.feedback.dilations)
    extractor = CLIPDenseExtractor(
        visual,
        mean=mean or clip.mean,
        std=std or clip.std,
        project_keys=project_keys,
        pad=pad,
        readout=switches,
        positions=positions,
        proxy=build_optional(proxy, default=load_proxy, where='model.backbone.proxy'),
        refine=refine,
    )
    if extractor.proxy is not None:
        extractor.proxy.warn_of_resizing(extractor.tower.stride)
    return clip, extractor


def build_text(
    clip: LoadedCLIP,
    vocabulary: Vocabulary,
    /,
    *,
    templates: str | Sequence[str] = 'maskclip85',
    file: str | Path | None = None,
    renormalize: bool = True,
) -> Tensor:
    """Read text embeddings from a file, or compute and cache them: -> (C, D)

    Args:
        templates: a name of `mmseg.vocabularies.TEMPLATES` or a list of sentences with {}.
        file: .pth, .npy or .safetensors; its rows are taken as they are.
        renormalize: see `mmseg.clip.embed_prompts`.
    """
    if file is not None:
        return read_text_embeddings(file, vocabulary, dim=clip.embed_dim)
    return text_embeddings(clip, vocabulary, templates, renormalize=renormalize)


@builds(MaskClipHead)
def build_head(
    clip: LoadedCLIP,
    vocabulary: Vocabulary,
    /,
    *,
    text: Annotated[Settings, Builds(build_text)],
    **options: Any,
) -> MaskClipHead:
    """Build a MaskClipHead on text embeddings; `options` are its own settings."""
    rows = build(text, clip, vocabulary, default=build_text, where='text')
    return MaskClipHead(TextClassifier(rows, normalize=True), **options)


@builds(ClassWeight)
@validated
def build_class_weight(
    clip: LoadedCLIP | None,
    vocabulary: Vocabulary,
    groups: Sequence[int] | None = None,
    prior: CLIP | None = None,
    /,
    *,
    text: Annotated[Settings, Builds(build_text)],
    crop_size: Count = 224,
    prior_encoder: Annotated[Settings, Builds(CLIPDenseExtractor), MODELS] | None = None,
    mean_similarity: str | Path | Sequence[float] | None = None,
    keep: Sequence[str] = (),
    **options: Any,
) -> ClassWeight:
    """Build a ClassWeight; `options` are its own settings.

    Args:
        clip: the CLIP of the model; None for a student, whose class weight has a prior encoder.
        groups: see `ClassWeight`.
        prior: a loaded prior encoder, in place of `prior_encoder`.
        text: text embeddings of the prior encoder.
        crop_size: pixels of the crop 'clip', for other encoders; the data sets cut it.
        prior_encoder: another CLIP; None for that of the model.
        mean_similarity: values, or a .npy file of tools/analysis/mean_similarity.py.
        keep: labels.
    """
    if prior is None and prior_encoder is not None:
        prior = build(prior_encoder, default=CLIPDenseExtractor, where='class_weight.prior_encoder')
    loaded, encoder = (clip, None) if prior is None else prior
    if loaded is None:
        raise UserError('the class weight of a student needs a class_weight.prior_encoder')
    if not loaded.can_pool:
        raise UserError(
            f"{loaded.source} lacks the attention pool's position embeddings, so it has no "
            'image-level embedding for a class weight; use a complete CLIP as the prior encoder'
        )
    rows = build(text, loaded, vocabulary, default=build_text, where='text')
    mean: Any = mean_similarity
    if isinstance(mean, (str, Path)):
        cure = 'make it with tools/analysis/mean_similarity.py'
        mean = read_file(mean, cure=cure)
        if not torch.is_tensor(mean):
            file = f'class_weight.mean_similarity {mean_similarity}'
            raise UserError(f'{file} holds no single array; {cure}')
    ids = [i for label in keep for i in vocabulary.ids_of(label)]
    return ClassWeight(rows, encoder, groups, mean_similarity=mean, keep=ids, **options)


@builds(Scoring)
@validated
def build_scoring(
    vocabulary: Vocabulary,
    background: int,
    decode_head: Settings,
    /,
    *,
    synonyms: Literal['mean', 'max'] = 'mean',
    scale: Scale = LOGIT_SCALE,
    prob_thd: Fraction = 0.0,
    area_thd: Fraction = 0.0,
) -> tuple[Vocabulary, Scoring]:
    """Build the Vocabulary of the queries and the Scoring of their logits.

    Args:
        background: see `build_maskclip`; else the class called 'background'.
        synonyms: 'mean' makes one query of a class's prompts, 'max' one of each, of which the best
            is the class's score.
    """
    queries, groups = vocabulary, None
    if synonyms == 'max' and any(len(prompts) > 1 for prompts in vocabulary.prompts):
        queries, groups = vocabulary.by_prompt()
    labels = vocabulary.labels
    background_id = labels.index('background') if 'background' in labels else None
    if background:
        background_id = len(vocabulary) - background
        groups = tuple(min(group, background_id) for group in groups or range(len(vocabulary)))
    smoothed = isinstance(decode_head, dict) and decode_head.get('ks_thresh')
    # Key smoothing returns probabilities.
    return queries, Scoring(groups, background_id, None if smoothed else scale, prob_thd, area_thd)


def build_post(post: Settings | Sequence[Settings] | None) -> list[nn.Module]:
    """Build the modules of post-processing."""
    if post is None:
        return []
    parts = []
    for config in post if isinstance(post, (list, tuple)) else [post]:
        if not isinstance(config, dict) or 'type' not in config:
            raise UserError(f"model.post is such as dict(type='PAMR'), not {config!r}")
        parts.append(build(config, where='model.post'))
        if not hasattr(parts[-1], 'acts_on'):
            raise UserError(
                f'model.post: {config["type"]} is no post-processing; use PAMR or Superpixels'
            )
    return parts


# Students


@builds(MaskClipPlus)
def build_maskclip_plus(
    backbone: Annotated[Settings, MODELS],
    decode_head: Annotated[Settings, MODELS],
    vocabulary: Labels,
    *,
    teacher: Annotated[Settings, Builds(MaskClip), MODELS] | None = None,
    text: str | Path | None = None,
    class_weight: Annotated[Settings, Builds(ClassWeight), MODELS] | None = None,
    checkpoint: str | Path | None = None,
    unseen: Literal['all'] | Sequence[str] = 'all',
    learned_classes: Sequence[str] = (),
    robust_loss: Annotated[Settings, Builds(RobustLoss)] | None = None,
    windows: Annotated[Settings, Builds(Windows)] | None = None,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
    **options: Any,
) -> MaskClipPlus:
    """Build a MaskClipPlus: a student, and its teacher in training.

    Args:
        backbone: of type MixVisionTransformer or TimmBackbone.
        decode_head: of type ASPPHeadV2, SegformerHead, DepthwiseSeparableASPPHead or another.
        vocabulary, windows: see `build_maskclip`.
        teacher: a MaskClip; None for a student alone, from a checkpoint or with `text`.
        text: file of the text embeddings (C, D), if there is no teacher.
        checkpoint: a trained student's file, in this project's names or the original's.
        unseen: labels of the classes that pseudo-labels may have, or 'all'.
        learned_classes: labels of the classes with a learned vector in place of text.
        options: of `MaskClipPlus` itself.
    """
    words = load_vocabulary(vocabulary)
    if teacher is None and checkpoint is None and options.get('distill_weight'):
        raise UserError('model.distill_weight needs the teacher itself, not labels that it wrote')
    settings = None if teacher is None else dict(teacher, vocabulary=words)
    maskclip = build_optional(settings, default=MaskClip, where='model.teacher')
    state = None
    if checkpoint is not None:
        state, meta = read_student(checkpoint)
        require_same_training(checkpoint, meta, words, class_weight)
    rows = _text_of_student(maskclip, state, text, words)
    network = build(backbone, where='model.backbone')
    learned = words.ids(learned_classes)
    classifier = TextClassifier(rows, normalize=False, persistent=True, learned=learned)
    arguments = (network.channels, rows.shape[1], classifier)
    head = build(decode_head, *arguments, where='model.decode_head')
    weight = build_optional(class_weight, None, words, default=ClassWeight, where='class_weight')
    model = MaskClipPlus(
        network,
        head,
        maskclip,
        weight,
        None if unseen == 'all' else words.ids(unseen),
        build_optional(robust_loss, len(words), default=RobustLoss, where='model.robust_loss'),
        mean=mean,
        std=std,
        windows=build_optional(windows, default=Windows, where='model.windows'),
        **options,
    )
    if checkpoint is not None and state is not None:
        load_student(model, state, checkpoint, words)
    return model


def _text_of_student(
    teacher: MaskClip | None,
    state: dict[str, Tensor] | None,
    file: str | Path | None,
    words: Vocabulary,
) -> Tensor:
    """Take the text (C, D) of a teacher, else of a trained student, else of a file"""
    if teacher is not None:
        return class_rows(teacher.decode_head.conv_seg.embeddings, teacher.scoring.groups)
    if state is not None:
        return state['decode_head.conv_seg.embeddings']
    if file is not None:
        return read_text_embeddings(file, words)
    raise UserError('a student needs a teacher, the labels of one (pseudo_labels) or weights')
