"""From a config to modules: the only place where models meet configs and files."""

import logging
from pathlib import Path

import timm
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
from mmseg.utils import kind_of, nearest, require_choice, require_keys, require_number
from mmseg.utils.checkpoint import meta_of, misfit, read_file, read_state, state_of
from mmseg.utils.timm_weights import create_with_weights
from mmseg.vocabularies import load_vocabulary

from .backbones import MixVisionTransformer, TimmBackbone
from .backbones.mit import SIZES
from .checkpoints import from_original, is_original, require_same_training, to_mmseg
from .class_weight import ClassWeight
from .decode_heads import ASPPHeadV2, DepthwiseSeparableASPPHead, MaskClipHead, SegformerHead
from .losses import RobustLoss
from .maskclip import MaskClip
from .maskclip_plus import MaskClipPlus
from .postprocess import SYNONYMS, Scoring
from .refine import LOGIT_SCALE
from .text_classifier import TextClassifier, class_rows
from .windows import Windows


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
    weight, prior_encoder = None, None
    if class_weight is not None:
        weight, prior_encoder = build_part(
            build_class_weight, 'class_weight', class_weight, clip, queries, scoring.groups
        )
    head = build_part(build_head, 'model.decode_head', decode_head, clip, queries, weight)
    return MaskClip(
        extractor,
        head,
        prior_encoder=prior_encoder,
        resize_twice=resize_twice,
        prior_crop=(class_weight or {}).get('crop', 'clip'),
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
    require_choice('scoring.synonyms', synonyms, SYNONYMS)
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


logger = logging.getLogger(__name__)
LOSS_STATE = 'robust_loss.'  # what training counted, which a student alone does not need
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@MODELS.register_module(name='MaskClipPlus')
def build_maskclip_plus(
    backbone,
    decode_head,
    vocabulary,
    *,
    teacher=None,
    text=None,
    class_weight=None,
    checkpoint=None,
    unseen='all',
    learned_classes=(),
    robust_loss=None,
    **options,
):
    """Config of the model `MaskClipPlus` -> MaskClipPlus.

    Args:
        backbone: of type MixVisionTransformer or TimmBackbone; see their builders.
        decode_head: ASPPHeadV2, SegformerHead, DepthwiseSeparableASPPHead or any DecodeHead.
        vocabulary: as for MaskClip.
        teacher: config of a MaskClip; None for a student alone, from a checkpoint or with `text`.
        text: file of the text's rows (C, D), where no teacher gives them.
        class_weight: on the student's scores; see `build_class_weight`, with its own
            `prior_encoder`.
        checkpoint: a trained student's file, in this project's names or the original's.
        unseen: labels of the classes that pseudo-labels may name, or 'all'.
        learned_classes: labels of the classes that training finds a vector for, in place of text.
        robust_loss: settings of a RobustLoss; None for plain cross entropy.
        options: see `MaskClipPlus`.
    """
    vocabulary = load_vocabulary(vocabulary)
    if teacher is not None:
        teacher = build_maskclip(vocabulary=vocabulary, **without_type(teacher))
    elif options.get('distill_weight') and checkpoint is None:
        raise UserError('model.distill_weight needs the teacher itself, not labels that it wrote')
    state = None
    if checkpoint is not None:
        state, meta = read_student(checkpoint)
        require_same_training(checkpoint, meta, vocabulary, class_weight)
    text = _text_of(state, teacher, text, vocabulary)
    network = MODELS.build(backbone)
    classifier = TextClassifier(
        text, normalize=False, persistent=True, learned=vocabulary.ids(learned_classes)
    )
    head = MODELS.get(decode_head['type'])(
        network.channels, text.shape[1], classifier, **without_type(decode_head)
    )
    if robust_loss is not None:
        options['robust_loss'] = build_part(
            RobustLoss, 'model.robust_loss', robust_loss, len(vocabulary)
        )
    if class_weight is not None:
        weight, prior_encoder = build_part(
            build_class_weight, 'class_weight', class_weight, None, vocabulary
        )
        options |= dict(
            class_weight=weight,
            prior_encoder=prior_encoder,
            prior_crop=class_weight.get('crop', 'clip'),
        )
    if unseen != 'all':
        options |= dict(candidates=vocabulary.ids(unseen))
    model = MaskClipPlus(network, head, teacher, **{**IMAGENET, **options})
    if state is not None:
        _load_student(model, state, checkpoint, vocabulary)
    return model


def _text_of(state, teacher, file, vocabulary):
    """-> (C, D) rows of a teacher, else of a trained student, else of a file"""
    if teacher is not None:
        return class_rows(teacher.decode_head.conv_seg.embeddings, teacher.scoring.groups)
    if state is not None:
        return state['decode_head.conv_seg.embeddings']
    if file is None:
        raise UserError('a student needs a teacher, the labels of one (pseudo_labels) or weights')
    return read_text_embeddings(file, vocabulary)


def read_student(path):
    """A student's file -> {name: tensor} in our names, without its loss's; and its `meta_of`"""
    content = read_file(path)
    state = state_of(content, path)
    if is_original(state):
        state = from_original(state)
    text = state.get('decode_head.conv_seg.embeddings')
    if text is None or text.ndim != 2:
        raise UserError(f'{path} is no checkpoint of a MaskCLIP+ student: it holds no text')
    own = {name: t for name, t in state.items() if not name.startswith(LOSS_STATE)}
    return own, meta_of(content, path)


def _load_student(model, state, path, vocabulary):
    rows = len(state['decode_head.conv_seg.embeddings'])
    if rows != len(vocabulary):
        raise UserError(
            f'the student of {path} knows {rows} classes, the vocabulary {vocabulary.name} has '
            f'{len(vocabulary)}'
        )
    own = model.state_dict()
    reason = misfit(own, state, {name for name in own if name.startswith(LOSS_STATE)})
    if reason:
        raise UserError(f'{path} does not fit this student: {reason}')
    model.load_state_dict(state, strict=False)


build_maskclip_plus.options_of = MaskClipPlus
build_maskclip_plus.not_from_config = {'prior_encoder', 'prior_crop', 'candidates'}


@MODELS.register_module(name='MixVisionTransformer')
def build_mit(size, *, pretrained=None, drop_path=0.1):
    """'b0' to 'b5', a file of weights in any of `to_mmseg`'s layouts -> MixVisionTransformer.

    `pretrained` None starts from scratch, and says so; False does where a checkpoint follows.
    """
    if size not in SIZES:
        raise UserError(
            f'MiT has no size {size!r}{nearest(size, SIZES)}; known: {", ".join(SIZES)}'
        )
    network = MixVisionTransformer(size, drop_path=drop_path)
    return _start_from(network, pretrained, f'MiT-{size}', rename=to_mmseg)


@MODELS.register_module(name='TimmBackbone')
def build_timm_backbone(model, *, pretrained=None, prefix='', out_indices=None, output_stride=32):
    """A timm model's name -> TimmBackbone of its features.

    Args:
        pretrained: True for timm's own weights (those in `pretrain`, or else from the network), a
            file, None to start from scratch, False where a checkpoint follows.
        prefix: what the names in the file start with; the others are left out.
        out_indices, output_stride: timm's; outputs to keep, and pixels per cell of the last.
    """
    if not timm.is_model(model):
        raise UserError(f'timm has no model {model!r}{nearest(model, timm.list_models())}')
    options = {} if out_indices is None else dict(out_indices=tuple(out_indices))
    if output_stride != 32:
        options['output_stride'] = output_stride
    options['features_only'] = True
    if pretrained is True:
        return TimmBackbone(create_with_weights(model, **options))
    network = TimmBackbone(timm.create_model(model, **options))
    return _start_from(network, pretrained, model, prefix)


def _start_from(network, file, name, prefix='', rename=None):
    """Load a file of ImageNet weights; without one, say loudly that training starts anew."""
    if file is False:
        return network
    if file is None:
        logger.warning('%s starts FROM SCRATCH: no ImageNet weights are named (pretrained)', name)
        return network
    body = network.body if isinstance(network, TimmBackbone) else network
    state = {k.removeprefix(prefix): v for k, v in read_state(file).items() if k.startswith(prefix)}
    if rename is not None:
        state = rename(state, file)
    own = body.state_dict()
    reason = misfit(own, {key: tensor for key, tensor in state.items() if key in own})
    if reason:
        raise UserError(f'{file} does not fit {name}: it is {kind_of(state)}; {reason}')
    body.load_state_dict({key: state[key] for key in own})
    return network


for _head in (ASPPHeadV2, DepthwiseSeparableASPPHead, SegformerHead):
    _head.not_from_config = {'in_channels', 'channels', 'classifier'}
    MODELS.register_module(module=_head)
