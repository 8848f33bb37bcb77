import torch
import torch.nn.functional as F

from mmseg.errors import UserError
from mmseg.structures import UNLABELED, ignore_label
from mmseg.utils import require_number, require_pair

from .encoder_decoder import EncoderDecoder, stack_padded
from .pseudo_label import confidence, fill_from, fill_unlabeled


class MaskClipPlus(EncoderDecoder):
    """A student on MaskCLIP's labels (MaskCLIP+, ECCV 2022, section 3.4).

    At test it is the student alone. In training, pixels that nobody labelled (-1) take the label of
    the teacher (computed now, or read from a folder where the samples have `pseudo_sem_seg`), or
    later of the student itself or its running average; labelled pixels keep theirs.

    Args:
        teacher: the very MaskClip that is evaluated by itself; frozen, moves with the model, in
            neither its parameters nor its checkpoints. None where the samples have its labels.
        start_clip_guided, start_self_train: (first, last) training step, counted from 1, of either
            phase; last -1 for no end, first -1 for never.
        candidates: ids of the classes that pseudo-labels may name; None for all.
        conf_thresh: see `fill_unlabeled`.
        self_thresh: the same in the phase `start_self_train`; None for `conf_thresh`.
        ema_momentum: in that phase a running average of the student labels for it (mean teacher,
            Tarvainen and Valpola, NeurIPS 2017), to which a step adds this share of the student;
            `AverageStudentHook` keeps it in `frozen['average']`. None for the student itself.
        distill_weight: of the L1 distance between the student's features and the teacher's unit
            dense features, on the student's grid, averaged as `loss_over` says; 0 leaves it out.
        robust_loss: a RobustLoss in place of plain cross entropy.
        teacher_at_validation: give validated photos the teacher's labels too, as `pseudo_sem_seg`.
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
        self_thresh=None,
        ema_momentum=None,
        distill_weight=0.0,
        robust_loss=None,
        teacher_at_validation=False,
        **options,
    ):
        require_phase('model.start_clip_guided', start_clip_guided)
        require_phase('model.start_self_train', start_self_train)
        require_number('model.conf_thresh', conf_thresh, 0, 1)
        require_number('model.distill_weight', distill_weight, 0)
        if self_thresh is not None:
            require_number('model.self_thresh', self_thresh, 0, 1)
        if candidates is not None and not len(candidates):
            raise UserError("unseen = [] leaves a teacher no class to label; name some, or 'all'")
        if ema_momentum is not None:
            require_number('model.ema_momentum', ema_momentum, above=0, most=1)
        super().__init__(backbone, decode_head, **options)
        self.frozen['teacher'] = teacher
        self.start_clip_guided, self.start_self_train = start_clip_guided, start_self_train
        self.candidates, self.conf_thresh = candidates, conf_thresh
        self.self_thresh = conf_thresh if self_thresh is None else self_thresh
        self.ema_momentum, self.distill_weight = ema_momentum, distill_weight
        self.robust_loss, self.teacher_at_validation = robust_loss, teacher_at_validation

    def forward(self, inputs, data_samples=None, mode='tensor', **context):
        """See `Segmentor`; in validation the teacher's labels too, where they are asked for."""
        result = super().forward(inputs, data_samples, mode, **context)
        teacher = self.frozen['teacher']
        if mode == 'predict' and self.teacher_at_validation and teacher is not None:
            theirs = teacher(inputs, [sample.clone() for sample in result], mode)
            for sample, other in zip(result, theirs):
                sample.pseudo_sem_seg = other.pred_sem_seg
        return result

    def loss(self, images, samples, *, step):
        """[(3, H, W) uint8], samples with gt_sem_seg, step from 1 on -> {name: ()}"""
        image, view = self.training_input(images, samples)
        features = self.features(image)
        scores = self.weigh(self.decode_head.classify(features), image, view)
        target, confidence = self.targets_of(samples, scores.shape[1]), None
        if within(step, self.start_clip_guided):
            target, confidence = self.label_by_teacher(target, images, samples)
        elif within(step, self.start_self_train):
            target, confidence = self.label_by_itself(target, scores.detach(), image, view)
        ignore = ignore_label(scores.shape[1])
        target = target.where(target != UNLABELED, ignore)
        if self.robust_loss is None:
            losses = self.loss_against(scores, target)
        else:
            sums = self.robust_loss(scores, target, confidence)
            losses = self.loss_against(scores, target, sums)
        if self.distill_weight:
            dense = self.frozen['teacher'].dense_features(self.teacher_images(images))
            error = distance(features, dense, target != ignore) / self.loss_pixels
            losses['loss_distill'] = self.distill_weight * error
        return losses

    def label_by_teacher(self, target, images, samples):
        """-> (N, H, W), at -1 where it is not sure, and (N, H, W) confidence in 0..1 or None"""
        if 'pseudo_sem_seg' in samples[0]:
            return self.cached_labels(target, samples)
        scores, scale = self.teacher_scores(images, samples), self.frozen['teacher'].scoring.scale
        return self.pseudo_labels(target, scores, scale=scale), self._confidence(
            target, scores, scale
        )

    def label_by_itself(self, target, scores, image, view):
        """-> (N, H, W), at -1 where it is not sure, and (N, H, W) confidence in 0..1 or None"""
        if self.ema_momentum is not None:
            with torch.no_grad():
                scores = self.frozen['average'].scores(image, view)
        labels = self.pseudo_labels(target, scores, scale=1.0, threshold=self.self_thresh)
        return labels, self._confidence(target, scores, 1.0)

    def cached_labels(self, target, samples):
        """Labels, and confidence where they came with it, of an earlier tools/pseudo_label.py."""
        none = target.new_zeros(1, 1)  # padding is never at -1
        labels, confidence = [sample.pseudo_sem_seg for sample in samples], None
        labels = stack_padded(labels, none, least=self.pad_to)
        if 'pseudo_confidence' in samples[0]:
            confidence = [sample.pseudo_confidence for sample in samples]
            confidence = stack_padded(confidence, none, least=self.pad_to) / 255
            confidence = confidence.where(target == UNLABELED, 1.0)
        labels = fill_from(target, labels, confidence, self.candidates, threshold=self.conf_thresh)
        return labels, confidence

    def teacher_images(self, images):
        """[(3, H_i, W_i)] -> (N, 3, H, W), padded with the teacher's own mean"""
        mean = self.frozen['teacher'].backbone.mean.view(3, 1, 1)
        return stack_padded(images, mean, least=self.pad_to)

    @torch.inference_mode()
    def teacher_scores(self, images, samples):
        """-> (N, C, h, w) of the padded batch, by the teacher's own normalisation"""
        teacher = self.frozen['teacher']
        view = None
        if teacher.prior_crop == 'clip':
            view = torch.stack([sample.prior_crop for sample in samples])
        return teacher.scores(self.teacher_images(images), view)

    @torch.no_grad()
    def pseudo_labels(self, target, scores, *, scale, threshold=None):
        """(N, H, W), (N, C, h, w) -> (N, H, W); `scale` as in `fill_unlabeled`"""
        threshold = self.conf_thresh if threshold is None else threshold
        return fill_unlabeled(target, scores, self.candidates, threshold=threshold, scale=scale)

    @torch.no_grad()
    def _confidence(self, target, scores, scale):
        """-> (N, H, W) of `confidence`, or None where the loss does not ask for it"""
        if self.robust_loss is None or not self.robust_loss.reads_confidence:
            return None
        return confidence(target, scores, self.candidates, scale=scale)


def distance(features, dense, labelled):
    """(N, D, h, w), (N, D, h', w'), (N, H, W) bool -> (): sum over the labelled pixels

    A pixel's distance is the mean |features - unit dense| over D of its cell.
    """
    size = features.shape[2:]
    dense = F.interpolate(F.normalize(dense, dim=1), size, mode='bilinear', align_corners=False)
    share = F.adaptive_avg_pool2d(labelled[:, None].float(), size)  # of a cell that is labelled
    each = (features - dense).abs().mean(dim=1, keepdim=True)
    return (each * share).sum() * (labelled.shape[1:].numel() / size.numel())


def require_phase(name: str, phase: tuple[int, int]) -> None:
    """
    Raises:
        UserError: not the first and the last step of a phase, as `within` reads them.
    """
    require_pair(name, phase, least=-1, whole=True)
    first, last = phase
    if first == 0 or (first > 0 and -1 < last < first):
        raise UserError(
            f'{name} is (first, last) step, counted from 1, first -1 for never and last -1 for no '
            f'end; not {phase!r}'
        )


def within(step, phase):
    """int, (first, last) -> bool; (1, -1) is always, (-1, -1) never"""
    first, last = phase
    return first != -1 and step >= first and (last == -1 or step <= last)
