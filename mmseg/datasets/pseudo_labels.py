"""Check a folder of labels that tools/pseudo_label.py wrote."""

import json
from collections.abc import Sequence
from pathlib import Path

from mmseg.errors import UserError
from mmseg.vocabularies import Vocabulary

RECORD = 'labels.json'
CONFIDENCE = '.conf.png'  # beside `x.png`


def require_labels(
    folder: str | Path, vocabulary: Vocabulary, paths: Sequence[str], *, confidence: bool = False
) -> None:
    """Refuse a folder whose labels are of other classes, or that lacks some of the paths.

    Args:
        confidence: the training also reads `x.conf.png` beside each `x.png`.

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
    if difference := vocabulary.difference(classes):
        raise UserError(f'the labels of {folder} are of another vocabulary: {difference}')
    if confidence and not has_confidence:
        raise UserError(
            f'{folder} holds labels without confidence, which model.conf_thresh and '
            'model.robust_loss.confidence_power need: write them with --confidence, elsewhere'
        )
    if absent := [path for path in paths if not Path(path).is_file()]:
        raise UserError(
            f'{folder} lacks the labels of {len(absent)} photos, such as {", ".join(absent[:3])}; '
            'run tools/pseudo_label.py again, it continues where it stopped'
        )
    if not confidence:
        return
    if bare := [path for path in paths if not Path(path).with_suffix(CONFIDENCE).is_file()]:
        raise UserError(
            f'{len(bare)} labels of {folder} lack their {CONFIDENCE}, such as those of '
            f'{", ".join(bare[:3])}; remove these and run tools/pseudo_label.py again'
        )
