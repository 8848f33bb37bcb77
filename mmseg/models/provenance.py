"""Compare the training that a student's file records with the config that reads it."""

import json
import logging

from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from mmseg.errors import UserError
from mmseg.vocabularies import Vocabulary, label_difference

logger = logging.getLogger(__name__)
WEIGHT = 'model.class_weight.'  # of the settings in a checkpoint's meta
NO_SWITCHES = (
    'type',
    'mean_similarity',
)  # `mean_similarity` is a file, and the paths of two machines differ


def require_same_training(
    path: str, meta: dict, vocabulary: Vocabulary, class_weight: dict | None
) -> None:
    """Compare a student's file with a config; what the file does not say is not compared.

    Another class weight is named in a warning, since a student may be tried with another one.

    Args:
        meta: `meta_of` the file.

    Raises:
        UserError: the student was trained with other classes, or in another order.
    """
    labels, trained = _stated(meta)
    difference = vocabulary.difference(labels) if labels else ''
    if difference:
        raise UserError(f'the student of {path} was trained with other classes: {difference}')
    if trained is not None:
        now = switches_of(class_weight)
        names = [name for name in trained | now if trained.get(name) != now.get(name)]
        told = [f'{name}={now.get(name)} (trained with {trained.get(name)})' for name in names]
        if told:
            logger.warning('%s is read with another class_weight: %s', path, ', '.join(told))


def switches_of(class_weight: dict | None) -> dict[str, str]:
    """Settings of a class weight -> {'tau': '1.0', ...}, without its towers, text and files"""
    return {
        name: str(value)
        for name, value in (class_weight or {}).items()
        if name not in NO_SWITCHES and '.' not in name and str(value) != 'None'
        if not isinstance(value, dict)
    }


def _stated(meta: dict) -> tuple[list[str] | None, dict[str, str] | None]:
    """`meta_of` a student's file -> its labels or None, {name: text} of its class weight or None"""
    if isinstance(meta.get('vocabulary'), str):  # of tools/publish_model.py
        weight = switches_of(_parsed(meta['class_weight'])) if 'class_weight' in meta else None
        return _labels(_parsed(meta['vocabulary']).get('labels')), weight
    settings = None
    if 'settings' in meta:
        items = [(str(name), value) for name, value in _dict(meta['settings']).items()]
        own = {k.removeprefix(WEIGHT): v for k, v in items if k.startswith(WEIGHT)}
        settings = switches_of(own)
    return _labels(_dict(meta.get('dataset_meta')).get('classes')), settings


def _labels(value: object) -> list[str] | None:
    """Return labels if the value is a list of them, else None."""
    listed = isinstance(value, (list, tuple)) and all(isinstance(label, str) for label in value)
    return list(value) if listed else None


def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _parsed(text: object) -> dict:
    """JSON of a dict -> the dict; {} of anything else"""
    try:
        return _dict(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return {}


def require_same_run(path: str, checkpoint: dict, runner: Runner) -> None:
    """Compare a checkpoint with the run that resumes it.

    Raises:
        UserError: it was trained with other classes; or its weights are a running average, and the
            run has no hook for one: the average would be trained with the student's optimizer.
    """
    labels, _ = _stated(checkpoint.get('meta', {}))
    own = _labels(getattr(runner.train_dataloader.dataset, 'metainfo', {}).get('classes'))
    difference = labels and own and label_difference(labels, own, 'the data set')
    if difference:
        raise UserError(f'{path} was trained with other classes: {difference}')
    averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks)
    if 'ema_state_dict' in checkpoint and not averaged:
        raise UserError(
            f'{path} was trained with a running average (model.ema_momentum, or EMAHook), which '
            'the config lacks; resume with it, or start a new run by --load-from'
        )
