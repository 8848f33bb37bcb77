import torch

from mmseg.structures import ignore_label
from mmseg.utils import channel_statistics, require_choice

from .losses import count_pixels, cross_entropy
from .segmentor import Segmentor


class EncoderDecoder(Segmentor):
    """A backbone and a decode head, with an optional class weight on the head's scores.

    Args:
        backbone: (N, 3, H, W) normalised -> a list of (N, C_i, h_i, w_i).
        decode_head: a DecodeHead.
        mean, std: RGB in 0..1, the backbone's.
        class_weight: a ClassWeight whose weights scale the scores, in training and at test (as
            published, Q6); None keeps the model free of CLIP.
        prior_encoder: the CLIPDenseExtractor behind the class weight; it is frozen, moves with the
            model, and is in neither its parameters nor its checkpoints.
        prior_crop, resize_twice, windows: see `Segmentor`.
        loss_over: 'labelled' averages losses over the labelled pixels of all processes, 'all' over
            all pixels (as published, Q14: ignored pixels count 0).
        pad_to: pad training crops to this many pixels a side at least (as published, Q23); None
            pads them to the largest of the batch.
    """

    def __init__(
        self,
        backbone,
        decode_head,
        *,
        mean,
        std,
        class_weight=None,
        prior_encoder=None,
        prior_crop='clip',
        resize_twice=False,
        windows=None,
        loss_over='labelled',
        pad_to=None,
    ):
        require_choice('model.loss_over', loss_over, ('labelled', 'all'))
        super().__init__(
            prior_crop=prior_crop if class_weight is not None else None,
            resize_twice=resize_twice,
            windows=windows,
        )
        self.backbone, self.decode_head, self.class_weight = backbone, decode_head, class_weight
        self.loss_over, self.pad_to = loss_over, pad_to
        mean, std = channel_statistics(mean, std)
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)
        self.frozen = {'prior_encoder': prior_encoder}
        self.loss_pixels = None  # that the last loss is a mean over, see `count_pixels`

    def _apply(self, fn, recurse=True):
        """What stands aside moves and converts with the model."""
        for module in self.frozen.values():
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
            embedding = self.frozen['prior_encoder'].embed(image if view is None else view)
        return self.class_weight.reweight(scores, embedding)

    def loss(self, images, samples):
        """[(3, H, W) uint8], samples with gt_sem_seg -> {'loss_ce', 'acc_seg'}"""
        scores = self.scores(*self.training_input(images, samples))
        return self.loss_against(scores, self.targets_of(samples, scores.shape[1]))

    def training_input(self, images, samples):
        """Return the batch, padded at the right and bottom to one size, and its views or None."""
        view = None
        if self.prior_crop == 'clip':
            view = torch.stack([sample.prior_crop for sample in samples])
        return stack_padded(images, self.mean, least=self.pad_to), view

    def targets_of(self, samples, num_classes):
        """Stack `gt_sem_seg` to (N, H, W) int64, ignored where images are padded."""
        targets = [sample.gt_sem_seg for sample in samples]
        fill = torch.full((1, 1), ignore_label(num_classes), device=targets[0].device)
        return stack_padded(targets, fill, least=self.pad_to)

    def loss_against(self, scores, target, sums=None):
        """(N, C, h, w), (N, H, W) -> {'loss_ce': (), 'acc_seg': () in 0..100}

        Args:
            sums: what stands in the place of the sums of `cross_entropy`. Their weights do not
                change the number of pixels, so that a batch of unsure labels counts less.
        """
        total, right = cross_entropy(scores, target) if sums is None else sums
        self.loss_pixels = count_pixels(target, scores.shape[1], self.loss_over)
        return dict(loss_ce=total / self.loss_pixels, acc_seg=100 * right / self.loss_pixels)


def stack_padded(maps, fill, *, least=None):
    """[(..., H_i, W_i)], (..., 1, 1) -> (N, ..., H, W): `fill` at the right and bottom.

    H and W are those of the largest map, or `least`. An image filled with a network's mean is 0
    there behind its normalisation.
    """
    height, width = (max(least or 0, *(one.shape[d] for one in maps)) for d in (-2, -1))
    batch = fill.expand(len(maps), *fill.shape[:-2], height, width).clone()
    for row, one in zip(batch, maps):
        row[..., : one.shape[-2], : one.shape[-1]] = one
    return batch
