import torch
import torch.nn.functional as F

from mmseg.structures import IGNORE, UNLABELED

from ..pseudo_label import fill_unlabeled
from .encoder_decoder import EncoderDecoder, stack_images, stack_targets


class MaskClipPlus(EncoderDecoder):
    """A student on MaskCLIP's labels (MaskCLIP+, ECCV 2022, section 3.4).

    At test it is the student alone. In training, pixels that nobody labelled (-1) take the label of
    the teacher, or later of the student itself; labelled pixels keep theirs.

    Args:
        teacher: the very MaskClip that is evaluated by itself; frozen, moves with the model, in
            neither its parameters nor its checkpoints.
        start_clip_guided, start_self_train: (first, last) training step, counted from 1, of either
            phase; last -1 for no end, first -1 for never.
        candidates: ids of the classes that pseudo-labels may name; None for all.
        conf_thresh: see `fill_unlabeled`.
        distill_weight: of the L1 distance between the student's features and the teacher's unit
            dense features, on the student's grid; 0 leaves it out.
        options: see `EncoderDecoder`.
    """

    def __init__(
        self,
        backbone,
        decode_head,
        teacher,
        *,
        start_clip_guided=(1, -1),
        start_self_train=(-1, -1),
        candidates=None,
        conf_thresh=0.0,
        distill_weight=0.0,
        **options,
    ):
        super().__init__(backbone, decode_head, **options)
        self.aside['teacher'] = teacher
        self.start_clip_guided, self.start_self_train = start_clip_guided, start_self_train
        self.candidates, self.conf_thresh = candidates, conf_thresh
        self.distill_weight = distill_weight

    def loss(self, images, samples, *, step):
        """[(3, H, W) uint8], samples with gt_sem_seg, step from 1 on -> {name: ()}"""
        target = stack_targets([sample.gt_sem_seg for sample in samples])
        image, view = self.training_input(images, samples)
        features = self.features(image)
        scores = self.weigh(self.decode_head.classify(features), image, view)
        if within(step, self.start_clip_guided):
            smoothed = (
                self.aside['teacher'].decode_head.ks_thresh > 0
            )  # then they are probabilities
            target = self.pseudo_labels(
                target, self.teacher_scores(images, samples), scale=None if smoothed else 100.0
            )
        elif within(step, self.start_self_train):
            target = self.pseudo_labels(target, scores.detach(), scale=1.0)
        target = target.where(target != UNLABELED, target.new_tensor(IGNORE))
        losses = self.loss_against(scores, target)
        if self.distill_weight:
            teacher = self.aside['teacher']
            dense = teacher.dense_features(stack_images(images, fill=_mean_of(teacher)))
            losses['loss_distill'] = self.distill_weight * distance(features, dense, target)
        return losses

    @torch.inference_mode()
    def teacher_scores(self, images, samples):
        """-> (N, C, h, w) of the padded batch, by the teacher's own normalisation"""
        teacher = self.aside['teacher']
        view = None
        if teacher.weigher_view == 'clip':
            view = torch.stack([sample.view for sample in samples])
        return teacher.scores(stack_images(images, fill=_mean_of(teacher)), view)

    @torch.no_grad()
    def pseudo_labels(self, target, scores, *, scale):
        """(N, H, W), (N, C, h, w) -> (N, H, W) without -1; `scale` as in `fill_unlabeled`"""
        return fill_unlabeled(
            target, scores, self.candidates, threshold=self.conf_thresh, scale=scale
        )


def _mean_of(teacher):
    return teacher.backbone.mean.view(3, 1, 1)


def distance(features, dense, target):
    """(N, D, h, w), (N, D, h', w'), (N, H, W) -> (): mean |features - unit dense|, 255 left out"""
    size = features.shape[2:]
    dense = F.interpolate(F.normalize(dense, dim=1), size, mode='bilinear', align_corners=False)
    kept = F.interpolate((target != IGNORE)[:, None].float(), size, mode='nearest')
    total = ((features - dense).abs() * kept).sum()
    return total / (kept.sum() * features.shape[1]).clamp_min(1)


def within(step, phase):
    """int, (first, last) -> bool; (1, -1) is always, (-1, -1) never"""
    first, last = phase
    return first != -1 and step >= first and (last == -1 or step <= last)
