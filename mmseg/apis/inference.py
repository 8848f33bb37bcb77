"""Photos and words in, label maps out: `init_model` and `segment`."""

import threading
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmseg.clip import CLIPDenseExtractor
from mmseg.datasets.reading import crop_for_prior
from mmseg.engine import allow_tf32, device_of, load_config
from mmseg.errors import UserError
from mmseg.models.build import build, build_maskclip, without_type
from mmseg.models.postprocess import checksum, require_finite_scores
from mmseg.models.resize import Windows
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.structures import ignore_label
from mmseg.utils import CHECKOUT
from mmseg.vocabularies import load_vocabulary

from .photo import as_photo
from .result import Segmentation
from .test import use_checkpoint
from .words import Words, classes_of, words_of

CONFIGS = CHECKOUT / 'configs'
KEPT = 8  # vocabularies whose embeddings a model keeps
RESIZING = ('Resize', 'ResizeShortSide')


class Segmenter:
    """A model and all that is needed to ask it for other words; made by `init_model`.

    Any number of threads may segment with it: what a call needs is its own.

    Attributes:
        vocabulary: the config's classes.
        device: where it computes.
    """

    def __init__(self, config, device, checkpoint=None):
        self.config, self.device = config, device
        self.is_student = config.model.type == 'MaskClipPlus'
        self.vocabulary = load_vocabulary(config.model.vocabulary)
        self.transforms = _resizing(config)
        self.lock, self.networks = threading.Lock(), {}
        if checkpoint is not None:
            use_checkpoint(config, checkpoint)
        if self.is_student:
            if not config.model.get('checkpoint'):
                raise UserError(
                    f'{config.filename} is a student, which knows nothing before its training: '
                    'name its checkpoint'
                )
            config.model.teacher = None
            config.model.backbone.pretrained = False
            network = MODELS.build(config.model).to(device).eval()
            self.networks[Words(self.vocabulary)] = network
        else:
            self.clip, self.extractor = self._load(config.model.backbone)
            prior_encoder = (config.model.get('class_weight') or {}).get('prior_encoder')
            self.prior_encoder = self._load(prior_encoder) if prior_encoder else None

    def _load(self, backbone):
        clip, extractor = build(backbone, default=CLIPDenseExtractor, where='backbone')
        return clip, extractor.to(self.device)

    def network(self, words):
        """Words -> the Segmentor that looks for them; only text is computed anew."""
        with self.lock:
            if words not in self.networks:
                if self.is_student:
                    raise UserError(
                        'a student finds the classes that it was trained for; for other words use '
                        'a MaskCLIP config'
                    )
                if len(self.networks) >= KEPT:
                    self.networks.pop(next(iter(self.networks)))
                self.networks[words] = self._assemble(words).to(self.device)
            return self.networks[words]

    def _assemble(self, words):
        config = self.config.model.to_dict()
        head, weight = dict(config['decode_head']), dict(config.get('class_weight') or {})
        own = words.vocabulary == self.vocabulary and words.templates is None
        if not own:
            head['text'] = _new_text(head['text'], words.templates)
        if words.tau is not None:
            weight = weight or dict(text=head['text'])
            weight['tau'] = words.tau
        if weight:
            weight = without_type(weight)
            weight['text'] = weight['text'] if own else _new_text(weight['text'], words.templates)
        return build_maskclip(
            (self.clip, self.extractor),
            self.prior_encoder,
            words.background,
            backbone=config['backbone'],
            decode_head=head,
            vocabulary=words.vocabulary,
            class_weight=weight or None,
            resize_twice=config.get('resize_twice', False),
            windows=config.get('windows'),
            scoring=_new_scoring(config.get('scoring'), own, words),
            post=config.get('post'),
        )


def _new_text(text, templates):
    """How the config makes its text, with other templates if some are named, without its file."""
    text = {k: v for k, v in text.items() if k != 'file'}
    return text if templates is None else dict(text, templates=templates)


def _new_scoring(scoring, own, words):
    """The config's scoring; its thresholds only for words that have a background"""
    if scoring is None or own or words.background or 'background' in words.vocabulary.labels:
        return scoring
    return {k: v for k, v in scoring.items() if k not in ('prob_thd', 'area_thd')}


def _resizing(config):
    """The test pipeline's own resizing; photos keep their size where it has none."""
    steps = config.get('test_dataloader', {}).get('dataset', {}).get('pipeline', ())
    return [TRANSFORMS.build(step) for step in steps if step['type'] in RESIZING]


def init_model(config, checkpoint=None, device=None, cfg_options=None) -> Segmenter:
    """A config (file or Config), weights in place of the config's, a device -> Segmenter.

    In this process fp32 becomes IEEE's on GPUs, see `mmseg.engine.allow_tf32`.

    Raises:
        UserError: whatever the user can mend, named.
    """
    if isinstance(config, (str, Path)):
        config = load_config(config, cfg_options)
    allow_tf32(False)
    return Segmenter(config, device_of(device), checkpoint)


def segment(
    model,
    images,
    classes=None,
    *,
    background=(),
    templates=None,
    tau=None,
    threshold=0.0,
    window=None,
    stride=None,
):
    """Segment one image or many into classes named in words.

    Args:
        model: of `init_model`.
        images: a path, PIL image, (H, W, 3) uint8 RGB array or (3, H, W) uint8 tensor; or a list.
        classes: names ('person | people' for synonyms), a list or separated by commas; None for
            the config's.
        background: names that together are one class more, 'background'.
        templates: name of the prompt templates; None for the config's.
        tau: temperature of a class weight; None for the config's, which may have none.
        threshold: probability in 0..1 below which a pixel belongs to none of the classes.
        window, stride: pixels of sliding windows over the resized photo; None for the config's
            (`model.windows`), or the whole photo at once. The stride's default is a third of the
            window.

    Returns:
        A Segmentation, or a list of them for a list.
    """
    words = words_of(model, classes, background, templates, tau)
    if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
        raise UserError(f'threshold is a probability in 0..1, not {threshold!r}')
    window = _windows(window, stride)
    if window is not None:
        model.network(words).check_windows(window)  # before any photo is read
    if isinstance(images, (list, tuple)):
        return [_segment_one(model, image, words, threshold, window) for image in images]
    return _segment_one(model, images, words, threshold, window)


def _windows(window, stride):
    """Pixels of windows and between them, or None -> Windows or None"""
    if stride is not None and window is None:
        raise UserError('stride needs a window')
    for name, pixels in (('window', window), ('stride', stride)):
        if pixels is not None and not (isinstance(pixels, Integral) and pixels >= 1):
            raise UserError(f'{name} is a number of pixels, not {pixels!r}')
    if window is None:
        return None
    stride = min(window, stride or max(1, window // 3))  # a longer one would leave gaps
    return Windows(int(window), int(stride), batch=8)


@torch.inference_mode()
def _segment_one(model, image, words, threshold, window):
    photo = as_photo(image)
    network = model.network(words)
    tensor, view = network_input(model, network, photo)
    (maps,) = network.query_logits([tensor], None if view is None else [view], window)
    return _result(photo, maps, tensor, network, words, threshold, window)


def network_input(model, network, photo):
    """PIL RGB -> (3, H, W) float on the model's device, and the class weight's view or None"""
    results = dict(img=np.asarray(photo))
    for transform in model.transforms:
        results = transform(results)
    tensor = torch.from_numpy(np.array(results['img'])).permute(2, 0, 1).to(model.device).float()
    if network.prior_crop != 'clip':
        return tensor, None
    weight = model.config.model.get('class_weight') or {}
    view = torch.from_numpy(np.array(crop_for_prior(photo, weight.get('crop_size', 224))))
    return tensor, view.permute(2, 0, 1).to(model.device)


def _result(photo, maps, tensor, network, words, threshold, window):
    """(Q, m, n) of `Segmentor.query_logits` of one photo -> Segmentation"""
    labels, palette = classes_of(words)
    size = photo.size[::-1]
    scores = network.to_input_grid(maps, tensor.shape[1:], window).float()
    found, sure = network.labels_and_confidence(maps, size, tensor, window)
    found, sure = found.cpu().numpy(), sure.cpu().numpy()
    require_finite_scores(checksum(scores))
    found = above_threshold(found, sure, threshold, len(labels))
    return Segmentation(np.asarray(photo), found, scores.cpu(), sure, labels, palette)


def above_threshold(labels, probability, threshold, num_classes):
    """(H, W), (H, W) -> (H, W) labels, the ignored one where the probability is lower"""
    if not threshold:
        return labels
    none = ignore_label(num_classes)
    kind = labels.dtype if none == 255 else np.int32
    return np.where(probability < threshold, none, labels).astype(kind)


def scale_of(network):
    """What scores are multiplied by to be logits; None where they are probabilities already."""
    return network.scoring.scale


# The names that mmsegmentation's users know.
inference_model = segment


def show_result_pyplot(model, image, result, show=True, out_file=None):
    """Draw a result with matplotlib, or to a file; as mmsegmentation's of this name.

    Returns:
        The overlay with its legend, (H, W, 3) uint8.
    """
    picture = result.overlay()
    if out_file is not None:
        Image.fromarray(picture).save(out_file)
    if show:
        import matplotlib.pyplot as plt

        plt.imshow(picture)
        plt.axis('off')
        plt.show()
    return picture
