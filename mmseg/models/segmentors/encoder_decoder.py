import torch

from mmseg.structures import IGNORE
from mmseg.utils import channel_statistics

from ..resized import averaged, cross_entropy
from .base import Segmentor


class EncoderDecoder(Segmentor):
    """A backbone and a decode head, with an optional class weight on the head's scores.

    Args:
        backbone: (N, 3, H, W) normalised -> a list of (N, C_i, h_i, w_i).
        decode_head: a DecodeHead.
        mean, std: RGB in 0..1, the backbone's.
        class_weight: a ClassWeight whose weights scale the scores, in training and at test (as
            published, Q6); None keeps the model free of CLIP.
        weigher: the CLIPDenseExtractor behind the class weight; it is frozen, moves with the model,
            and is in neither its parameters nor its checkpoints.
        weigher_view, resize_twice, windows: see `Segmentor`.
        loss_over: 'labelled' averages cross entropy over labelled pixels, 'all' over all (as
            published, Q14: ignored pixels count 0).
    """

    def __init__(
        self,
        backbone,
        decode_head,
        *,
        mean,
        std,
        class_weight=None,
        weigher=None,
        weigher_view='clip',
        resize_twice=False,
        windows=None,
        loss_over='labelled',
    ):
        super().__init__(
            weigher_view=weigher_view if class_weight is not None else None,
            resize_twice=resize_twice,
            windows=windows,
        )
        self.backbone, self.decode_head, self.class_weight = backbone, decode_head, class_weight
        self.loss_over = loss_over
        mean, std = channel_statistics(mean, std)
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)
        self.aside = {'weigher': weigher}

    def _apply(self, fn, recurse=True):
        """What stands aside moves and converts with the model."""
        for module in self.aside.values():
            if module is not None:
                module._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def scores(self, image, view=None):
        """(N, 3, H, W) RGB in 0..255, (N, 3, 224, 224) for a view -> (N, C, h, w)"""
        return self.weigh(self.decode_head.classify(self.features(image)), image, view)

    def features(self, image):
        """(N, 3, H, W) RGB in 0..255 -> (N, D, h, w), what the classifier reads"""
        return self.decode_head.forward_features(self.backbone((image - self.mean) / self.std))

    def weigh(self, scores, image, view):
        """(N, C, h, w) -> (N, C, h, w): the class weight, where there is one"""
        if self.class_weight is None:
            return scores
        with torch.no_grad():
            embedding = self.aside['weigher'].embed(image if view is None else view)
        return self.class_weight.reweight(scores, embedding)

    def loss(self, images, samples):
        """[(3, H, W) uint8], samples with gt_sem_seg -> {'loss_ce', 'acc_seg'}"""
        target = stack_targets([sample.gt_sem_seg for sample in samples])
        return self.loss_against(self.scores(*self.training_input(images, samples)), target)

    def training_input(self, images, samples):
        """-> the batch, padded at the right and bottom to one size, and its views or None"""
        view = None
        if self.weigher_view == 'clip':
            view = torch.stack([sample.view for sample in samples])
        return stack_images(images, fill=self.mean), view

    def loss_against(self, scores, target):
        """(N, C, h, w), (N, H, W) -> {'loss_ce': (), 'acc_seg': () in 0..100}"""
        return averaged(*cross_entropy(scores, target), target, self.loss_over)


def stack_images(images, *, fill):
    """[(3, H_i, W_i) in 0..255], (3, 1, 1) -> (N, 3, H, W) float: `fill` at the right and bottom.

    Filling with a network's mean makes the padding 0 behind its normalisation.
    """
    height, width = (max(image.shape[d] for image in images) for d in (1, 2))
    batch = fill.expand(len(images), 3, height, width).clone()
    for row, image in zip(batch, images):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch


def stack_targets(targets):
    """[(H_i, W_i) labels] -> (N, H, W) int64, 255 at the right and bottom"""
    height, width = (max(target.shape[d] for target in targets) for d in (0, 1))
    batch = targets[0].new_full((len(targets), height, width), IGNORE, dtype=torch.int64)
    for row, target in zip(batch, targets):
        row[: target.shape[0], : target.shape[1]] = target
    return batch
