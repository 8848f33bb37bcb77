"""The plain way that the fast paths are measured against: what mmsegmentation 0.x does, in fp32.

One photo at a time; scores resized to the padded input and again to the photo, all classes at
once; softmax; labels to numpy and a histogram there. In training, labels from full-size scores,
an optimizer that goes from tensor to tensor, and losses read in every step. Nothing of
`mmseg.kernels` is used, and attention is written out.
"""

from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmseg.engine import keep_freed_memory
from mmseg.kernels import plain
from mmseg.structures import UNLABELED, ignore_label


@contextmanager
def plain_pytorch(model):
    """Within it, layers are PyTorch's own, channels first, memory is given back when it is free,
    and attention is matmul, softmax, matmul."""
    channels_last = next(model.parameters()).device.type != 'cpu'
    keep_freed_memory(False)
    try:
        if channels_last:
            model.to(memory_format=torch.contiguous_format)
        with plain(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        keep_freed_memory()
        if channels_last:
            model.to(memory_format=torch.channels_last)


def plain_labels(model, scores, input_size, photo_size):
    """(1, Q, h, w), (H, W) twice -> (H, W) int64 numpy: both resizings, softmax, arg-max"""
    stride = None if model.resize_twice else model.score_stride
    padded = [cells * stride for cells in scores.shape[2:]] if stride else input_size
    scores = F.interpolate(scores, size=padded, mode='bilinear', align_corners=False)
    scores = scores[:, :, : input_size[0], : input_size[1]]
    scores = F.interpolate(scores, size=photo_size, mode='bilinear', align_corners=False)
    return model.scoring.by_class(scores.softmax(dim=1)).argmax(dim=1).cpu().numpy()[0]


def plain_confusion(labels, truth, num_classes, ignore):
    """(H, W) twice, numpy -> (3, C) pixels of the intersection, the prediction and the truth"""
    kept = truth != ignore
    labels, truth = labels[kept], truth[kept]
    edges = np.arange(num_classes + 1)
    parts = (labels[labels == truth], labels, truth)
    return np.stack([np.histogram(part, bins=edges)[0] for part in parts])


def plain_iou(areas):
    """(3, C) -> mIoU in fractions, over the classes that occur"""
    both, pred, truth = areas.astype(float)
    union = pred + truth - both
    return float(np.mean(both[union > 0] / union[union > 0]))


def plain_pseudo_labels(model):
    """A MaskClipPlus -> its `pseudo_labels`, by way of (N, C, H, W) float32 scores"""

    def pseudo_labels(target, scores, *, scale, threshold):
        ids = list(range(scores.shape[1]) if model.candidates is None else model.candidates)
        full = F.interpolate(scores[:, ids].float(), target.shape[1:], mode='bilinear')
        best = full if scale is None else (full * scale).softmax(dim=1)
        sure, label = best.max(dim=1)
        label = target.new_tensor(ids)[label]
        label[sure < threshold] = UNLABELED
        return torch.where(target == UNLABELED, label, target), None

    return torch.no_grad()(pseudo_labels)


def plain_loss(model):
    """A MaskClipPlus -> its `loss_against`, by way of (N, C, H, W) float32 scores"""

    def loss_against(scores, target, sums=None):
        full = F.interpolate(scores.float(), target.shape[1:], mode='bilinear')
        ignore = ignore_label(scores.shape[1])
        kept = target != ignore
        pixels = target.numel() if model.loss_over == 'all' else kept.sum().clamp_min(1)
        loss = F.cross_entropy(full, target, ignore_index=ignore, reduction='none').sum() / pixels
        right = ((full.argmax(dim=1) == target) & kept).sum()
        model.loss_pixels = pixels
        return dict(loss_ce=loss, acc_seg=100 * right / pixels)

    return loss_against


@contextmanager
def plain_training(model):
    """Within it, a MaskClipPlus trains the plain way."""
    model.pseudo_labels, model.loss_against = plain_pseudo_labels(model), plain_loss(model)
    try:
        with plain_pytorch(model):
            yield
    finally:
        del model.pseudo_labels, model.loss_against


def plain_step(model, batch, optimizer, clock):
    """One step with the losses read at its end -> {name: number}"""
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss')
    with clock.stage('backward'):
        sum(value.mean() for name, value in losses.items() if 'loss' in name).backward()
    with clock.stage('step'):
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return {name: value.item() for name, value in losses.items()}
