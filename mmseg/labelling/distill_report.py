"""The report of `maskclip distill`: one HTML file that opens anywhere."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from PIL import Image

from mmseg.apis.inference import Segmenter, init_model, segment
from mmseg.datasets.pseudo_labels import CONFIDENCE
from mmseg.datasets.reading import read_gray, read_list, read_mask
from mmseg.evaluation import confusion_matrix, scores_of
from mmseg.preparation.read_formats import read_labels
from mmseg.utils import Progress, atomic_path, path_below
from mmseg.utils.images import data_url
from mmseg.visualization import blend

SHOWN = 24  # photos, the least sure first
PANEL = 400  # pixels of a panel's long side
CONFUSED = 8  # pairs of classes
TIMED = 8  # photos that speed is measured on
TEMPLATE = Path(__file__).with_name('distill_report.html')


def write_report(
    root: Path,
    settings: Mapping[str, Any],
    held_out: Path,
    *,
    masks: str | Path | None = None,
    device: str,
) -> Path:
    """Compare student and teacher on the held-out photos, and write OUT/report.html.

    Args:
        root: the folder of the results.
        settings: of the run, to be shown.
        held_out: the list of the photos.
        masks: labels for IoU, see `read_labels`; None for none.
        device: where to compute.

    Returns:
        The path of the report.
    """
    student = init_model(root / 'config.py', root / 'student.safetensors', device)
    photos, num = Path(settings['photos']), len(student.vocabulary)
    paths = [path_below(photos, x, held_out) for x in read_list(held_out)]
    counts = {key: torch.zeros(num, num, dtype=torch.int64) for key in ('agree', 'teacher', 'own')}
    sure, rows = np.zeros(num), []
    truths = {}
    if masks is not None:
        truths = dict(read_labels(masks, paths, student.vocabulary, root=photos))

    def add(name: str, labels: np.ndarray, truth: np.ndarray) -> None:
        pair = torch.from_numpy(labels), torch.from_numpy(truth)
        counts[name] = counts[name] + confusion_matrix(*pair, num)

    with Progress(len(paths), 'report', unit='photo') as progress:
        for path in paths:
            name = path.relative_to(photos).with_suffix('.png')
            result = segment(student, path)
            shape = result.labels.shape
            png = root / 'labels' / name
            taught = read_mask(png, shape, num_classes=num, reduce_zero_label=False)
            confidence = read_gray(png.with_suffix(CONFIDENCE), shape)
            known = taught < num
            sure += np.bincount(taught[known], confidence[known] / 255, num)
            add('agree', result.labels, taught)
            if path in truths:
                add('teacher', taught, truths[path])
                add('own', result.labels, truths[path])
            tinted = [blend(result.photo, x, result.palette) for x in (taught, result.labels)]
            picture = _jpeg([result.photo, *tinted])
            rows.append((float(result.probability.mean()), str(name.with_suffix('')), picture))
            progress.update()
    rows.sort()
    text = jinja2.Template(TEMPLATE.read_text(), autoescape=True).render(
        settings=settings,
        classes=_classes(student, counts, sure),
        confused=_confused(counts['agree'], student.vocabulary.labels),
        agreement=scores_of(counts['agree']),
        scores={k: scores_of(counts[k]) for k in ('teacher', 'own') if counts[k].any()},
        models=_models(root, settings['teacher'], student, paths[:TIMED], device),
        rows=rows[:SHOWN],
        photos=len(rows),
        when=time.strftime('%Y-%m-%d'),
    )
    with atomic_path(root / 'report.html') as temporary:
        temporary.write_text(text, encoding='utf-8')
    return root / 'report.html'


def _classes(
    student: Segmenter, counts: Mapping[str, torch.Tensor], sure: np.ndarray
) -> list[dict[str, Any]]:
    """Describe each class by its share and confidence, and by IoU."""
    agree = counts['agree']
    taught, found = (agree.sum(dim=axis).double() for axis in (1, 0))
    columns = dict(
        taught=taught / taught.sum(),
        found=found / found.sum(),
        confidence=torch.from_numpy(sure) / taught,
        agreement=scores_of(agree).iou,
        **{f'iou_{k}': scores_of(counts[k]).iou for k in ('teacher', 'own') if counts[k].any()},
    )
    return [
        dict(name=name, colour=f'rgb{tuple(colour)}')
        | {key: None if values[i].isnan() else float(values[i]) for key, values in columns.items()}
        for i, (name, colour) in enumerate(
            zip(student.vocabulary.labels, student.vocabulary.palette)
        )
    ]


def _confused(agree: torch.Tensor, names: Sequence[str]) -> list[tuple[str, str, float]]:
    """List the pairs that differ on most pixels: teacher's word, student's word, share of it."""
    other = agree.double().fill_diagonal_(0)
    pairs = []
    for index in other.flatten().argsort(descending=True)[:CONFUSED].tolist():
        row, column = divmod(index, len(names))
        if other[row, column]:
            share = float(other[row, column] / agree[row].sum())
            pairs.append((names[row], names[column], share))
    return pairs


def _models(
    root: Path, teacher: str, student: Segmenter, paths: Sequence[Path], device: str
) -> list[dict[str, Any]]:
    """Measure parameters and photos a second of teacher and student on this machine."""
    taught_by = init_model(teacher, None, device)
    words = student.vocabulary
    names = [' | '.join(prompts) for prompts in words.prompts]
    runs: dict[str, tuple[Segmenter, Callable[[Path], Any]]] = {
        'teacher': (taught_by, lambda path: segment(taught_by, path, names)),
        'student': (student, lambda path: segment(student, path)),
    }
    models = []
    for name, (model, run) in runs.items():
        run(paths[0])  # the first one also prepares
        start = time.perf_counter()
        for path in paths:
            run(path)
        rate = len(paths) / (time.perf_counter() - start)
        network = next(iter(model.networks.values()))
        size = sum(parameter.numel() for parameter in network.parameters())
        models.append(dict(name=name, rate=rate, parameters=size / 1e6))
    models[1]['file'] = (root / 'student.onnx').stat().st_size / 1e6
    return models


def _jpeg(panels: Sequence[np.ndarray]) -> str:
    """Put equal pictures side by side, as the URL of a JPEG."""
    height, width = panels[0].shape[:2]
    scale = PANEL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    small = [np.asarray(Image.fromarray(panel).resize(size, how)) for panel in panels]
    return data_url(Image.fromarray(np.concatenate(small, axis=1)), 'jpeg', quality=85)
