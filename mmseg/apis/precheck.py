"""Mistakes that would stop a run late are looked for before any weights are fetched."""

from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmseg.errors import UserError
from mmseg.utils import nearest

# What a training, or an evaluation, reads of each sample, by the type of model or metric.
NEEDED = dict(
    MaskClipPlus='gt_sem_seg',
    ClipPretraining='caption',
    IoUMetric='gt_sem_seg',
    RetrievalMetric='caption',
)
CURES = dict(
    gt_sem_seg='training needs LoadAnnotations or Unlabeled; an evaluation LoadAnnotations and '
    'masks, without which a test can draw (--show-dir) or write labels (--out)',
    caption='RenderScene gives it by captions=True',
)


def try_pipeline(dataset, loader: str, readers: list[str]) -> None:
    """Run a data set's pipeline on one sample.

    Args:
        loader: where it stands in the config, 'train_dataloader'.
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


def types_of(evaluator) -> list[str]:
    """An evaluator's config, a dict or a list of them -> the types of its metrics"""
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator or {}]
    return [metric.get('type') for metric in metrics]


def require_table(evaluator: Evaluator) -> None:
    """
    Raises:
        UserError: the first metric of a test gives no scores per class to print and keep.
    """
    if not hasattr(next(iter(evaluator.metrics), None), 'scores'):
        found = ', '.join(type(metric).__name__ for metric in evaluator.metrics) or 'none'
        raise UserError(f'test_evaluator begins with IoUMetric, not {found}')


def build_optimizer(runner: Runner) -> None:
    """Build optimizer and schedules, as mmengine would when the training starts."""
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if runner.param_schedulers:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)


def require_best(runner: Runner) -> None:
    """
    Raises:
        UserError: validation has no metric, or gives none of the name by which the best checkpoint
            is to be kept.
    """
    if runner.val_loop is None:
        return
    metrics = runner.val_loop.evaluator.metrics
    if not metrics:
        raise UserError('val_evaluator names no metric; leave out validation by --no-validate')
    known = [name for metric in metrics for name in getattr(metric, 'names', ['auto'])]
    asked = [
        name for h in runner.hooks if isinstance(h, CheckpointHook) for name in h.save_best or ()
    ]
    for name in asked:
        if name not in known and 'auto' not in (name, *known):
            raise UserError(
                f'default_hooks.checkpoint.save_best: validation gives no {name!r}'
                f'{nearest(name, known)}; it gives {", ".join(known[:5])}'
            )
