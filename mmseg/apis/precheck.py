"""Find mistakes of data and metrics in a config before any weights are read."""

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import DefaultScope

from mmseg.errors import UserError
from mmseg.registry import SCOPE
from mmseg.utils import nearest

# The field of each sample that a model or a metric reads, by its type.
NEEDED = dict(
    MaskClipPlus='gt_sem_seg',
    ClipPretraining='named',
    IoUMetric='gt_sem_seg',
    RetrievalMetric='named',
)
CURES = dict(
    gt_sem_seg='training needs LoadAnnotations or Unlabeled; an evaluation LoadAnnotations and '
    'masks, without which a test can draw (--show-dir) or write labels (--out)',
    named='RenderScene gives it by captions=True',
)


def try_pipeline(dataset: Any, loader: str, readers: Sequence[str | None]) -> None:
    """Run a data set's pipeline on one sample.

    Args:
        dataset: the data set.
        loader: its key in the config, such as 'train_dataloader'.
        readers: types of model and metrics that read its samples.

    Raises:
        UserError: a step is missing, or the sample cannot be read.
    """
    where = f'{loader}.dataset.pipeline'
    try:
        item = dataset[0]
    except KeyError as error:
        raise UserError(
            f'{where} lacks a step that makes {error}, which a later one reads'
        ) from error
    if not isinstance(item, dict) or not {'inputs', 'data_samples'} <= set(item):
        raise UserError(f'{where} does not end in PackSegInputs')
    for name in (NEEDED[reader] for reader in readers if reader in NEEDED):
        if name not in item['data_samples']:
            raise UserError(f'{where} makes no {name}: {CURES[name]}')


def types_of(evaluator: Any) -> list[str | None]:
    """List the types of the metrics of an evaluator's config, a dict or a list of them."""
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator or {}]
    return [metric.get('type') for metric in metrics]


def metrics_of(evaluator: Any, dataset: Any) -> list[BaseMetric]:
    """Build the metrics of an evaluator's config for a data set; no weights are read."""
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        evaluator = evaluator['metrics']
    with DefaultScope.overwrite_default_scope(SCOPE):
        built = Evaluator(evaluator or [])
    built.dataset_meta = getattr(dataset, 'metainfo', None)
    return built.metrics


def require_table(metrics: list[BaseMetric]) -> None:
    """Check that a test can print a table.

    Raises:
        UserError: the first metric gives no scores per class to print and keep.
    """
    if not hasattr(next(iter(metrics), None), 'scores'):
        names = ', '.join(type(metric).__name__ for metric in metrics) or 'none'
        raise UserError(f'test_evaluator begins with IoUMetric, not {names}')


def require_best(metrics: list[BaseMetric], config: Config) -> None:
    """Check that validation gives the figure by which the best checkpoint is kept.

    Raises:
        UserError: there is no metric, or none gives a figure of that name.
    """
    if not metrics:
        raise UserError('val_evaluator names no metric; leave out validation by --no-validate')
    names = [name for metric in metrics for name in getattr(metric, 'names', ['auto'])]
    hooks = [*config.get('default_hooks', {}).values(), *config.get('custom_hooks', [])]
    for best in [hook['save_best'] for hook in hooks if hook and hook.get('save_best')]:
        for name in [best] if isinstance(best, str) else best:
            if name not in names and 'auto' not in (name, *names):
                raise UserError(
                    f'default_hooks.checkpoint.save_best: validation gives no {name!r}'
                    f'{nearest(name, names)}; it gives {", ".join(names[:5])}'
                )
