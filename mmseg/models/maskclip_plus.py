import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.structures import UNLABELED, SegDataSample, ignore_label
from mmseg.utils import Count, Fraction, NotNegative, validated
from mmseg.utils.tensors import channel_statistics, stack_padded

from .class_weight import ClassWeight
from .decode_heads import DecodeHead
from .frozen import FrozenOwner
from .hub import HubStudent
from .losses import count_pixels, cross_entropy, distance
from .maskclip import MaskClip
from .phase import Phase, require_phase, within
from .pseudo_label import fill_from, fill_unlabeled
from .resize import Windows
from .robust_loss import RobustLoss
from .segmentor import Segmentor

Channels = tuple[float, float, float]
Momentum = Annotated[float, Interval(gt=0, le=1)]
Batch = Sequence[SegDataSample]


class MaskClipPlus(FrozenOwner, Segmentor, HubStudent):
    """A student that learns MaskCLIP's labels (MaskCLIP+, ECCV 2022, section 3.4).

    At test it is the student alone. In training, annotated pixels keep their label. All others (-1)
    get a pseudo-label: of the teacher (computed now, or read from a folder if the samples have
    `pseudo_sem_seg`), or later of the student itself or of its running average.

    Args:
        backbone: (N, 3, H, W) normalised -> a list of (N, C_i, h_i, w_i).
        decode_head: a DecodeHead.
        teacher: the MaskClip that labels; frozen. None for a student alone, or stored labels.
        class_weight: a ClassWeight on the student's logits, in training and at test (as published,
            Q6), with its own encoder. None keeps the student free of CLIP.
        candidates: ids of the classes that pseudo-labels may have; None for all.
        robust_loss: a RobustLoss in place of plain cross entropy.
        mean, std: RGB in 0..1, of the backbone.
        start_clip_guided, start_self_train: (first, last) training step, counted from 1, of either
            phase; last -1 for no end, first -1 for never.
        conf_thresh: see `fill_unlabeled`.
        self_thresh: the same in the phase `start_self_train`; None for `conf_thresh`.
        ema_momentum: in that phase a running average of the student labels (mean teacher, Tarvainen
            and Valpola, NeurIPS 2017). A step adds this share of the student to it;
            `AverageStudentHook` keeps it in `frozen['average']`. None for the student itself.
        distill_weight: of the L1 distance between the student's features and the teacher's unit
            dense features, on the student's grid, averaged as `loss_over` says.
        teacher_at_validation: also label validation photos by the teacher, as `pseudo_sem_seg`.
        loss_over: average losses over the 'labelled' pixels of all processes, or over 'all' pixels
            (as published, Q14: ignored pixels count 0).
        pad_to: pad training crops to at least this many pixels a side (as published, Q23); None
            pads them to the largest of the batch.
        resize_twice, windows: see `Segmentor`.

    Raises:
        UserError: a value out of range, or no candidates.
    """

    mean: Tensor
    std: Tensor
    decode_head: DecodeHead

    @validated
    def __init__(
        self,
        backbone: nn.Module,
        decode_head: DecodeHead,
        teacher: MaskClip | None = None,
        class_weight: ClassWeight | None = None,
        candidates: Sequence[int] | None = None,
        robust_loss: RobustLoss | None = None,
        /,
        *,
        mean: Channels,
        std: Channels,
        start_clip_guided: Phase = (1, -1),
        start_self_train: Phase = (-1, -1),
        conf_thresh: Fraction = 0.0,
        self_thresh: Fraction | None = None,
        ema_momentum: Momentum | None = None,
        distill_weight: NotNegative = 0.0,
        teacher_at_validation: bool = False,
        loss_over: Literal['labelled', 'all'] = 'labelled',
        pad_to: Count | None = None,
        resize_twice: bool = False,
        windows: Windows | None = None,
    ) -> None:
        require_phase('model.start_clip_guided', start_clip_guided)
        require_phase('model.start_self_train', start_self_train)
        if candidates is not None and not len(candidates):
            raise UserError("unseen = [] leaves a teacher no class to label; name some, or 'all'")
        super().__init__(class_weight, resize_twice=resize_twice, windows=windows)
        self.backbone, self.decode_head = backbone, decode_head
        self.frozen = {} if teacher is None else {'teacher': teacher}
        self.start_clip_guided, self.start_self_train = start_clip_guided, start_self_train
        self.candidates, self.conf_thresh = candidates, conf_thresh
        self.self_thresh = conf_thresh if self_thresh is None else self_thresh
        self.ema_momentum, self.distill_weight = ema_momentum, distill_weight
        self.robust_loss, self.teacher_at_validation = robust_loss, teacher_at_validation
        self.loss_over, self.pad_to = loss_over, pad_to
        mean_buffer, std_buffer = channel_statistics(mean, std)
        self.register_buffer('mean', mean_buffer, persistent=False)
        self.register_buffer('std', std_buffer, persistent=False)

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: list[SegDataSample] | None = None,
        mode: str = 'tensor',
        **context: Any,
    ) -> Any:
        """Run the student, see `Segmentor`; in validation the teacher too, if it is asked for."""
        result = super().forward(inputs, data_samples, mode, **context)
        if mode == 'predict' and self.teacher_at_validation and 'teacher' in self.frozen:
            labelled = self.teacher(inputs, [sample.clone() for sample in result], mode)
            for sample, by_teacher in zip(result, labelled):
                sample.pseudo_sem_seg = by_teacher.pred_sem_seg
        return result

    @property
    def teacher(self) -> MaskClip:
        """The MaskClip that labels, of `frozen`."""
        return typing.cast(MaskClip, self.frozen['teacher'])

    def features(self, image: Tensor) -> Tensor:
        """Compute the features for the classifier: (N, 3, H, W) RGB in 0..255 -> (N, D, h, w)"""
        return self.decode_head.forward_features(self.backbone((image - self.mean) / self.std))

    def window_logits(
        self, image: Tensor, embedding: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Run the student: (N, 3, H, W) -> (N, C, h, w), None; see `Segmentor`"""
        logits = self.decode_head.classify(self.features(image))
        return self.weigh(logits, image, embedding), None

    def weigh(self, logits: Tensor, image: Tensor, embedding: Tensor | None) -> Tensor:
        """Apply the class weight, if there is one: (N, C, h, w) -> (N, C, h, w)"""
        if self.class_weight is None:
            return logits
        if embedding is None:
            embedding = self.class_weight.embed(image, self.backbone)
        return self.class_weight.reweight(logits, embedding)

    def loss(self, images: Sequence[Tensor], samples: Batch, *, step: int) -> dict[str, Tensor]:
        """Train for a step: [(3, H, W) uint8], samples with gt_sem_seg -> {name: ()}

        Args:
            step: counted from 1.
        """
        # The student: features (N, D, h, w) and class logits (N, C, h, w) of the padded batch.
        image = stack_padded(images, self.mean, least=self.pad_to)
        crop = self.stacked_crops(samples)
        features = self.features(image)
        logits = self.weigh(self.decode_head.classify(features), image, self.embed(crop))

        # Targets (N, H, W): annotations, and pseudo-labels where there is none (-1).
        target, confidence = self.targets_of(samples, logits.shape[1]), None
        if within(step, self.start_clip_guided):
            if 'pseudo_sem_seg' in samples[0]:
                target, confidence = self.label_by_folder(target, samples)
            else:
                target, confidence = self.label_by_teacher(target, images, samples)
        elif within(step, self.start_self_train):
            target, confidence = self.label_by_itself(target, logits.detach(), image, crop)
        ignore = ignore_label(logits.shape[1])
        target = target.where(target != UNLABELED, ignore)  # no label at all

        # Losses, averaged over pixels.
        sums = None
        if self.robust_loss is not None:
            sums = self.robust_loss(logits, target, confidence)
        losses = self.loss_against(logits, target, sums)
        if self.distill_weight:
            dense = self.teacher.dense_features(self.teacher_images(images))
            error = distance(features, dense, target != ignore) / self.loss_pixels
            losses['loss_distill'] = self.distill_weight * error
        return losses

    def targets_of(self, samples: Batch, num_classes: int) -> Tensor:
        """Stack `gt_sem_seg` to (N, H, W) int64, ignored where images are padded."""
        targets = [sample.gt_sem_seg for sample in samples]
        fill = torch.full((1, 1), ignore_label(num_classes), device=targets[0].device)
        return stack_padded(targets, fill, least=self.pad_to)

    def label_by_teacher(
        self, target: Tensor, images: Sequence[Tensor], samples: Batch
    ) -> tuple[Tensor, Tensor | None]:
        """Fill in the teacher's labels: (N, H, W) -> (N, H, W), confidence (N, H, W) or None

        Pixels below `conf_thresh` stay at -1.
        """
        logits = self.teacher_scores(images, samples)
        scale = self.teacher.scoring.scale
        return self.pseudo_labels(target, logits, scale=scale, threshold=self.conf_thresh)

    def label_by_itself(
        self, target: Tensor, logits: Tensor, image: Tensor, prior_crop: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Fill in labels of the student, or of its average; as `label_by_teacher`"""
        if self.ema_momentum is not None:
            with torch.no_grad():
                average = typing.cast(MaskClipPlus, self.frozen['average'])
                logits = average.scores(image, prior_crop)
        return self.pseudo_labels(target, logits, scale=1.0, threshold=self.self_thresh)

    @torch.no_grad()
    def pseudo_labels(
        self, target: Tensor, logits: Tensor, *, scale: float | None, threshold: float
    ) -> tuple[Tensor, Tensor | None]:
        """Call `fill_unlabeled`; confidence is None unless the loss reads it"""
        return fill_unlabeled(
            target,
            logits,
            self.candidates,
            threshold=threshold,
            scale=scale,
            with_confidence=self.robust_loss is not None and self.robust_loss.reads_confidence,
        )

    def label_by_folder(self, target: Tensor, samples: Batch) -> tuple[Tensor, Tensor | None]:
        """Fill in labels of tools/pseudo_label.py, and their confidence if it is stored"""
        fill = target.new_zeros(1, 1)  # padding is never at -1
        stored = [sample.pseudo_sem_seg for sample in samples]
        labels, confidence = stack_padded(stored, fill, least=self.pad_to), None
        if 'pseudo_confidence' in samples[0]:
            stored = [sample.pseudo_confidence for sample in samples]
            confidence = stack_padded(stored, fill, least=self.pad_to) / 255
            confidence = confidence.where(target == UNLABELED, 1.0)
        labels = fill_from(target, labels, confidence, self.candidates, threshold=self.conf_thresh)
        return labels, confidence

    def teacher_images(self, images: Sequence[Tensor]) -> Tensor:
        """Pad with the teacher's mean: [(3, H_i, W_i)] -> (N, 3, H, W)"""
        mean = self.teacher.backbone.mean.view(3, 1, 1)
        return stack_padded(images, mean, least=self.pad_to)

    @torch.inference_mode()
    def teacher_scores(self, images: Sequence[Tensor], samples: Batch) -> Tensor:
        """Compute the teacher's class logits of the padded batch: -> (N, C, h, w)"""
        crops = self.teacher.stacked_crops(samples)
        return self.teacher.scores(self.teacher_images(images), crops)

    def loss_against(
        self, logits: Tensor, target: Tensor, sums: tuple[Tensor, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Compare logits with labels: (N, C, h, w), (N, H, W) -> {'loss_ce', 'acc_seg' in 0..100}

        Args:
            sums: of another loss, in place of those of `cross_entropy`. Pixel weights do not
                renormalise the loss: a batch of unsure labels counts less.
        """
        total, correct = cross_entropy(logits, target) if sums is None else sums
        pixels = self.loss_pixels = count_pixels(target, logits.shape[1], self.loss_over)
        return dict(loss_ce=total / pixels, acc_seg=100 * correct / pixels)
