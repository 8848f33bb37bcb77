"""Segment images into classes named in words: `init_model` and `segment`."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor

from mmseg.clip import CLIPDenseExtractor
from mmseg.datasets.reading import crop_for_prior, list_photos, read_photo, to_rgb
from mmseg.engine import allow_tf32, device_of, load_config
from mmseg.engine.shared_keys import CLIP_SIZE
from mmseg.errors import UserError
from mmseg.models.build import build, without_type
from mmseg.models.engines import Engine, EngineName, Precision
from mmseg.models.maskclip_plus import MaskClipPlus
from mmseg.models.postprocess import checksum, require_finite_scores
from mmseg.models.resize import Windows
from mmseg.models.student_file import RESIZING, describe_student
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.vocabularies import load_vocabulary

from .exported import load_exported
from .find_model import find_model, student_config
from .result import Segmentation, erase_uncertain
from .test import use_checkpoint
from .words import Words, words_of

KEPT = 8  # vocabularies whose embeddings a model keeps
NOISE = ((160, 128), (115, 161))  # sizes of pictures to compare labels on where there is no photo
Photo = str | Path | Image.Image | np.ndarray | Tensor


class Segmenter:
    """A model that segments into any words; `init_model` makes one.

    It is thread-safe: calls change nothing that they share but the cache of `network`.

    Args:
        engine, precision: see `mmseg.models.engines.Engine`; None for the config's (`test_cfg`).
        photos: to calibrate int8 on, and to compare labels on.

    Attributes:
        vocabulary: the config's classes.
        device: where it computes.
        is_student: whether it is a student, or an exported file: it knows its own classes only.
        transforms: resizing steps of the test pipeline; without them photos keep their size.
        crop_size: pixels of the crop for a class weight.
    """

    def __init__(
        self,
        config: Config,
        device: str,
        checkpoint: str | Path | None = None,
        *,
        engine: EngineName | None = None,
        precision: Precision | None = None,
        photos: Sequence[Photo] = (),
    ) -> None:
        self.config, self.device = config, device
        chosen = dict(engine='torch', precision='fp32') | (config.get('test_cfg') or {})
        self.engine = Engine(engine or chosen['engine'], precision or chosen['precision'], device)
        self.photos = [photos[i] for i in self.engine.choose(len(photos))]
        self.started: set[str | None] = set()  # kinds of prior crops that the engine has met
        if self.engine.precision == 'tf32':
            allow_tf32()
        self.is_student = config.model.type == 'MaskClipPlus'
        self.vocabulary = load_vocabulary(config.model.vocabulary)
        steps = config.get('test_dataloader', {}).get('dataset', {}).get('pipeline', ())
        self.transforms = [TRANSFORMS.build(step) for step in steps if step['type'] in RESIZING]
        self.lock, self.networks = threading.Lock(), dict[Words, Any]()
        description = describe_student(config) if self.is_student else None
        weight = config.model.get('class_weight') or {}
        self.crop_size = weight.get('crop_size', CLIP_SIZE)
        use_checkpoint(config, checkpoint)
        if self.is_student:
            config.model.teacher = None
            config.model.backbone.pretrained = False
            network = MODELS.build(config.model).to(device).eval()
            network.description = description
            self.networks[Words(self.vocabulary)] = network
        else:
            self.clip, self.extractor = self._load(config.model.backbone)
            prior_encoder = weight.get('prior_encoder')
            self.prior_encoder = self._load(prior_encoder) if prior_encoder else None
            if not weight:  # one that is asked for later has the CLIP's own size
                self.crop_size = self.clip.image_size

    def _load(self, backbone: Mapping[str, Any]) -> tuple[Any, Any]:
        clip, extractor = build(backbone, default=CLIPDenseExtractor, where='backbone')
        return clip, extractor.to(self.device)

    @property
    def student(self) -> Any:
        """The MaskClipPlus of a student, with `save_pretrained` and `push_to_hub`.

        Raises:
            UserError: it is a MaskCLIP, or an exported file.
        """
        network = self.networks.get(Words(self.vocabulary))
        if not isinstance(network, MaskClipPlus):
            raise UserError('this model is no student with weights of its own')
        return network

    def network(self, words: Words) -> Any:
        """Return the Segmentor for these words; only text is computed anew.

        Raises:
            UserError: other words than those of a student's training, or unknown templates.
        """
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
            network = self.networks[words]
            if not self.engine.is_default:
                self._start_engine(network)
            return network

    def _start_engine(self, network: Any) -> None:
        """Let the engine run a network; print the share of the labels that it keeps, once."""
        self.engine.install(network)
        if network.prior_crop in self.started:
            return
        readable = []
        for photo in self.photos:
            with suppress(UserError):  # its reader reports it
                as_photo(photo)
                readable.append(photo)
        self.engine.choose(len(readable))
        pictures = readable or [smooth_noise(size) for size in NOISE]
        labellers = [partial(self._labels, network, picture) for picture in pictures]
        what = 'photos' if readable else 'pictures of noise'
        print(self.engine.start(network, labellers, what), flush=True)
        self.started.add(network.prior_crop)

    @torch.inference_mode()
    def _labels(self, network: Any, photo: Photo) -> Tensor:
        image = as_photo(photo)
        tensor, crop = self.network_input(network, image)
        (logits,) = network.query_logits([tensor], crop)
        return network.labels(logits, image.size[::-1], tensor)

    def _assemble(self, words: Words) -> Any:
        config = self.config.model.to_dict()
        head, weight = dict(config['decode_head']), dict(config.get('class_weight') or {})
        unchanged = words.vocabulary == self.vocabulary and words.templates is None
        if not unchanged:
            head['text'] = _new_text(head['text'], words.templates)
            config['scoring'] = _new_scoring(config.get('scoring'), words)
        if words.tau is not None:
            weight = weight or dict(text=head['text'])
            weight['tau'] = words.tau
        if weight:
            weight = without_type(weight)
            if not unchanged:
                weight['text'] = _new_text(weight['text'], words.templates)
        config |= dict(decode_head=head, vocabulary=words.vocabulary, class_weight=weight or None)
        loaded = self.clip, self.extractor
        return build(config, loaded, self.prior_encoder, words.background)

    def network_input(self, network: Any, photo: Image.Image) -> tuple[Tensor, Tensor | None]:
        """Resize a photo to (3, H, W) float on the device, and crop it for the class weight.

        The crop (1, 3, S, S) is None for a network that needs none.
        """
        results: dict[str, Any] = dict(img=np.asarray(photo))
        for transform in self.transforms:
            results = transform(results)
        image = torch.from_numpy(np.array(results['img'])).permute(2, 0, 1)
        image = image.to(self.device).float()
        if network.prior_crop != 'clip':
            return image, None
        crop = torch.from_numpy(np.array(crop_for_prior(photo, self.crop_size)))
        return image, crop.permute(2, 0, 1)[None].to(self.device)


class ExportedSegmenter(Segmenter):
    """A file of tools/export.py, run by onnxruntime or OpenVINO."""

    def __init__(self, path: Path, device: str) -> None:
        self.config, self.device, self.is_student = Config(), device, True
        self.engine = Engine('torch', 'fp32', device)  # for all but the network
        network, self.vocabulary, self.transforms = load_exported(path, device)
        self.lock, self.networks = threading.Lock(), {Words(self.vocabulary): network}


def _new_text(text: Mapping[str, Any], templates: str | None) -> dict[str, Any]:
    """Return the config's settings of text without its file, and with templates that are named."""
    settings = {k: v for k, v in text.items() if k != 'file'}
    return settings if templates is None else dict(settings, templates=templates)


def _new_scoring(scoring: Mapping[str, Any] | None, words: Words) -> Mapping[str, Any] | None:
    """Return the config's scoring; its thresholds only for words that have a background."""
    if scoring is None or words.background or 'background' in words.vocabulary.labels:
        return scoring
    return {k: v for k, v in scoring.items() if k not in ('prob_thd', 'area_thd')}


def init_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    *,
    engine: EngineName | None = None,
    precision: Precision | None = None,
    photos: str | Path | Sequence[Photo] = (),
) -> Segmenter:
    """Load a model from anything that holds one.

    In this process fp32 becomes IEEE's on GPUs, see `mmseg.engine.allow_tf32`.

    An engine other than PyTorch, or another precision than fp32, prints the share of the labels
    that it keeps.

    Args:
        config: a Config, or a config's file or name; a student's file of tools/train.py or
            tools/publish_model.py; a file of tools/export.py, or OpenVINO's conversion of one; a
            folder of `MaskClipPlus.save_pretrained`, or the name of one on the hub, 'user/name'.
        checkpoint: weights that replace the config's; a student's config needs them.
        device: 'cpu', an accelerator's name, or None for the best there is.
        cfg_options: {key: value} of the config to override.
        engine: 'torch', 'onnxruntime' or 'openvino'; None for the config's (`test_cfg.engine`).
        precision: of `mmseg.models.engines.PRECISIONS`; None for the config's.
        photos: of the kind to segment, or their folder; int8 is calibrated on them and labels are
            compared on them. A few are read.

    Raises:
        UserError: a setting or file that cannot be used.
    """
    allow_tf32(False)
    device = device_of(device)
    if isinstance(photos, (str, Path)):
        photos = list_photos(photos)
    run: dict[str, Any] = dict(engine=engine, precision=precision, photos=photos)
    if not isinstance(config, (str, Path)):
        return Segmenter(config, device, checkpoint, **run)
    found = find_model(config)
    if found.kind == 'config':
        return Segmenter(load_config(found.path, cfg_options), device, checkpoint, **run)
    if checkpoint is not None:
        raise UserError(f'{config} is a model by itself; leave out the checkpoint {checkpoint}')
    if found.description is None:
        if cfg_options:
            raise UserError(f'{config} is an exported file, which has no config to override')
        if engine or precision:
            raise UserError(f'{config} is an exported file, which has its own engine and precision')
        return ExportedSegmenter(found.path, device)
    settings = student_config(found.description, cfg_options)
    segmenter = Segmenter(settings, device, found.path, **run)
    segmenter.student.description = found.description
    return segmenter


def segment(
    model: Segmenter,
    images: Photo | Sequence[Photo],
    classes: str | Iterable[str] | None = None,
    *,
    background: str | Iterable[str] = (),
    templates: str | None = None,
    tau: float | None = None,
    threshold: float = 0.0,
    window: int | None = None,
    stride: int | None = None,
) -> Any:
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

    Raises:
        UserError: words, settings or an image that cannot be used.
    """
    words = words_of(model, classes, background, templates, tau)
    if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
        raise UserError(f'threshold is a probability in 0..1, not {threshold!r}')
    windows, network = _windows(window, stride), model.network(words)
    if windows is not None:
        network.check_windows(windows)  # checked before any photo is read
    if isinstance(images, (list, tuple)):
        return [_segment_one(model, image, words, threshold, windows) for image in images]
    return _segment_one(model, images, words, threshold, windows)


def _windows(window: int | None, stride: int | None) -> Windows | None:
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
def _segment_one(
    model: Segmenter, image: Photo, words: Words, threshold: float, windows: Windows | None
) -> Segmentation:
    photo, network = as_photo(image), model.network(words)
    tensor, crop = model.network_input(network, photo)
    (logits,) = network.query_logits([tensor], crop, windows)
    scores = network.to_input_grid(logits, tensor.shape[1:], windows).float()
    labels, best = network.labels_and_confidence(logits, photo.size[::-1], tensor, windows)
    probability = best.cpu().numpy()
    require_finite_scores(checksum(scores))
    names, palette = words.classes()
    final = erase_uncertain(labels.cpu().numpy(), probability, threshold, len(names))
    return Segmentation(np.asarray(photo), final, scores.cpu(), probability, names, palette)


def as_photo(image: Photo) -> Image.Image:
    """Read a path, PIL image, (H, W, 3) uint8 array or (3, H, W) uint8 tensor as PIL RGB image.

    Raises:
        UserError: none of these, or unreadable.
    """
    if isinstance(image, (str, Path)):
        return read_photo(image)
    if isinstance(image, Image.Image) and all(image.size):
        try:
            return to_rgb(image)
        except (OSError, SyntaxError, ValueError) as error:
            name = getattr(image, 'filename', '') or 'that was passed'
            raise UserError(f'the image {name} cannot be read: {error}') from error
    if isinstance(image, Tensor):
        image = image.permute(1, 2, 0).cpu().numpy() if image.ndim == 3 else image
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3:
        if image.shape[2] == 3 and image.size:
            return Image.fromarray(np.ascontiguousarray(image))
    shape, dtype = tuple(getattr(image, 'shape', ())), getattr(image, 'dtype', '')
    raise UserError(
        'an image is a path, a PIL image, a (H, W, 3) uint8 RGB array or a (3, H, W) uint8 '
        f'tensor, not {type(image).__name__} {dtype} {shape}'
    )


def smooth_noise(size: tuple[int, int]) -> Image.Image:
    """Draw coloured clouds, (W, H)."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)


# The name of mmsegmentation.
inference_model = segment


def show_result_pyplot(
    model: Segmenter,
    image: Photo,
    result: Segmentation,
    show: bool = True,
    out_file: str | Path | None = None,
) -> np.ndarray:
    """Draw a result with matplotlib, or to a file; as mmsegmentation's function of this name.

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
