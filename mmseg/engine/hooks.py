"""Hooks of tests and validations: progress, finite scores, pictures, label files."""

from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

from mmseg.models.postprocess import checksum, require_finite_scores
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from mmseg.utils import Progress, atomic_path, unique_names, validated
from mmseg.utils.images import LABEL_PNG, label_image
from mmseg.visualization import overlay_with_legend, panels

Samples = Sequence[SegDataSample]


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show progress: a bar on a terminal, lines in a log, from the first process alone."""

    def before_test_epoch(self, runner: Runner) -> None:
        self._start(runner.test_dataloader, 'test')

    def before_val_epoch(self, runner: Runner) -> None:
        self._start(runner.val_dataloader, 'validation')

    def _start(self, loader: DataLoader, label: str) -> None:
        total = len(cast(Sized, loader.dataset))
        self.progress = Progress(total, label, unit='photo', quiet=not is_main_process())

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Samples = ()
    ) -> None:
        self.progress.update(len(outputs) * get_world_size())

    def after_test_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        self.progress.close()

    after_val_iter, after_val_epoch = after_test_iter, after_test_epoch


class FiniteScoresHook(Hook):
    """Stop a test or a validation whose scores are NaN or infinite, and name such a photo.

    The scores are checked once, after the last photo, so that no photo waits for the device.
    """

    priority = 'VERY_HIGH'  # before a table is printed or a checkpoint is the best

    def before_test_epoch(self, runner: Runner) -> None:
        self.photos: list[str] = []
        self.totals: list[torch.Tensor] = []

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Samples = ()
    ) -> None:
        for sample in outputs:
            if 'seg_logits' in sample:
                self.photos.append(sample.img_path)
                self.totals.append(checksum(sample.seg_logits))

    def after_test_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        if not self.totals:
            return
        totals = torch.stack(self.totals).cpu()
        for photo, total in zip(self.photos, totals):
            require_finite_scores(total, photo)

    before_val_epoch, after_val_iter = before_test_epoch, after_test_iter
    after_val_epoch = after_test_epoch


class _OutputHook(Hook):
    """Write files named after the photos into one folder, each atomically."""

    def __init__(self, out_dir: str | Path) -> None:
        self.out_dir = Path(out_dir)

    def before_test_epoch(self, runner: Runner) -> None:
        self.dataset = dataset = runner.test_dataloader.dataset
        self.meta = dataset.metainfo
        paths = [Path(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]
        self.names = unique_names(paths)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Samples = ()
    ) -> None:
        for sample in outputs:
            require_finite_scores(checksum(sample.seg_logits), sample.img_path)
            self.write(sample, sample.pred_sem_seg.cpu().numpy())

    def write(self, sample: SegDataSample, labels: np.ndarray) -> None:
        """Write the files of a photo with its labels (H, W)."""
        raise NotImplementedError

    def target(self, sample: SegDataSample, suffix: str) -> Path:
        """Name the output file of a photo."""
        return self.out_dir / f'{self.names[sample.img_path]}{suffix}'


@HOOKS.register_module()
class SegVisualizationHook(_OutputHook):
    """Draw photo | truth | prediction where there is truth, else an overlay; and a legend."""

    def write(self, sample: SegDataSample, labels: np.ndarray) -> None:
        names, palette = self.meta['classes'], self.meta['palette']
        photo = np.asarray(self.dataset.read(sample.img_path))
        if 'gt_sem_seg' in sample:
            picture = panels(photo, sample.gt_sem_seg.cpu().numpy(), labels, names, palette)
        else:
            picture = overlay_with_legend(photo, labels, names, palette)
        with atomic_path(self.target(sample, '.png')) as path:
            Image.fromarray(picture).save(path)


@HOOKS.register_module()
class LabelWriterHook(_OutputHook):
    """Write label PNGs with the vocabulary's palette, and the class scores where asked.

    Args:
        out_dir: where to write `<photo>.png` and `<photo>.npz`.
        save_scores: also write `scores`, (C, h, w) float16 at the network's resolution, and
            `labels`, the class names.
    """

    @validated
    def __init__(self, out_dir: str | Path, save_scores: bool = False) -> None:
        super().__init__(out_dir)
        self.save_scores = save_scores

    def write(self, sample: SegDataSample, labels: np.ndarray) -> None:
        with atomic_path(self.target(sample, '.png')) as path:
            label_image(labels, self.meta['palette']).save(path, **LABEL_PNG)
        if self.save_scores:
            scores = sample.seg_logits.half().cpu().numpy()
            with atomic_path(self.target(sample, '.npz')) as path:
                np.savez_compressed(path, scores=scores, labels=np.array(self.meta['classes']))
