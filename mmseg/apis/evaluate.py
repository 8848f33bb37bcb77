"""Evaluate a model on photos and their labels in any format, without a test set in a config."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from mmseg.datasets.reading import list_photos
from mmseg.evaluation import Scores, confusion_matrix, score_table, scores_of
from mmseg.preparation.read_formats import read_labels
from mmseg.utils import Progress

from .inference import init_model, segment
from .segment_files import default_config
from .words import words_of


def evaluate(
    photos: str | Path,
    masks: str | Path,
    classes: str | Iterable[str] | None = None,
    *,
    config: str | Path | None = None,
    **options: Any,
) -> Scores:
    """Label photos, compare with their masks, and print the table per class.

    Args:
        photos: a folder; photos without masks are left out.
        masks: see `read_labels`.
        classes: names, a list or separated by commas; None for the model's.
        config: a config file; None for `default_config()`.
        options: checkpoint, device, cfg_options, engine and precision, see `init_model`.

    Raises:
        UserError: words, settings or files that cannot be used.
    """
    started, root = time.monotonic(), Path(photos)
    paths = list_photos(root)
    model = init_model(config or default_config(), photos=paths, **options)
    words = words_of(model, classes)
    vocabulary, count = words.label_vocabulary(), 0
    total = torch.zeros(len(vocabulary), len(vocabulary), dtype=torch.int64)
    root = root if root.is_dir() else root.parent
    with Progress(len(paths), 'test', unit='photo') as progress:
        for path, truth in read_labels(masks, paths, vocabulary, root=root):
            predicted = torch.from_numpy(segment(model, path, classes).labels)
            total += confusion_matrix(predicted, torch.from_numpy(truth), len(vocabulary))
            count += 1
            progress.update()
    scores = scores_of(total)
    print(score_table(vocabulary.labels, scores))
    seconds = time.monotonic() - started
    print(f'{count} of {len(paths)} photos have masks; evaluated in {seconds:.1f} s')
    return scores
