"""From a config to a MaskCLIP+ student: backbone, head, text, and the teacher in training."""

import logging

import timm

from mmseg.clip import read_text_embeddings
from mmseg.errors import UserError
from mmseg.registry import MODELS
from mmseg.utils import kind_of, nearest
from mmseg.utils.checkpoint import meta_of, misfit, read_file, read_state, state_of
from mmseg.utils.timm_weights import create_with_weights
from mmseg.vocabularies import load_vocabulary

from .backbones import MixVisionTransformer, TimmBackbone
from .backbones.mit import SIZES
from .builder import build_maskclip
from .clip_parts import build_class_weight
from .decode_heads import ASPPHeadV2, DepthwiseSeparableASPPHead, SegformerHead
from .mit_names import to_mmseg
from .original_names import from_original, is_original
from .part import build_part, without_type
from .provenance import require_same_training
from .robust_loss import RobustLoss
from .segmentors import MaskClipPlus
from .text_classifier import TextClassifier, class_rows

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
