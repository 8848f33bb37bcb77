"""Labels that tools/pseudo_label.py wrote, as the targets of a later training."""

import json
from pathlib import Path

from mmseg.errors import UserError
from mmseg.registry import TRANSFORMS

from .transforms.loading import read_gray, read_mask

RECORD = 'labels.json'
CONFIDENCE = '.conf.png'  # beside `x.png`


def require_labels(folder, vocabulary, paths, *, confidence=False):
    """Refuse a folder whose labels are of other classes, or that lacks some of the paths.

    Args:
        confidence: the training reads `x.conf.png` beside each `x.png` too.

    Raises:
        UserError: what is wrong, and the first paths that are missing.
    """
    try:
        record = json.loads(Path(folder, RECORD).read_text(encoding='utf-8'))
        classes, has_confidence = record['classes'], record.get('confidence', False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{folder} holds no labels of tools/pseudo_label.py: its {RECORD} cannot be read'
        ) from error
    difference = vocabulary.difference(classes)
    if difference:
        raise UserError(f'the labels of {folder} are of another vocabulary: {difference}')
    if confidence and not has_confidence:
        raise UserError(
            f'{folder} holds labels without confidence, which model.conf_thresh and '
            'model.robust_loss.confidence_* need: write them with --confidence, to another folder'
        )
    _require_files(folder, paths, confidence)


def _require_files(folder, paths, confidence):
    paths = [Path(path) for path in paths]
    absent = [str(path) for path in paths if not path.is_file()]
    if absent:
        raise UserError(
            f'{folder} lacks the labels of {len(absent)} photos, such as {", ".join(absent[:3])}; '
            'run tools/pseudo_label.py again, it goes on where it stopped'
        )
    if not confidence:
        return
    bare = [str(path) for path in paths if not path.with_suffix(CONFIDENCE).is_file()]
    if bare:
        raise UserError(
            f'{len(bare)} labels of {folder} lack their {CONFIDENCE}, such as those of '
            f'{", ".join(bare[:3])}; remove these and run tools/pseudo_label.py again'
        )


@TRANSFORMS.register_module()
class LoadPseudoLabels:
    """pseudo_path -> pseudo_sem_seg (H, W), photo size, as by `LoadAnnotations`; none for no path.

    Where `x.conf.png` lies beside `x.png`, pseudo_confidence (H, W) uint8 too, 255 for certain.
    """

    def __call__(self, results):
        path = results.get('pseudo_path')
        if path is None:
            return results
        shape, number = results['ori_shape'], results['num_classes']
        results['pseudo_sem_seg'] = read_mask(
            path, shape, num_classes=number, reduce_zero_label=False
        )
        confidence = Path(path).with_suffix(CONFIDENCE)
        if confidence.is_file():
            results['pseudo_confidence'] = read_gray(confidence, shape)
        return results
