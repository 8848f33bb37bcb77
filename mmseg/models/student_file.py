"""What a student's file says of it: enough to build it again, how it was trained, its figures."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from safetensors.torch import save_file
from torch import Tensor

import mmseg
from mmseg.errors import UserError
from mmseg.registry import MODELS
from mmseg.utils import Settings, atomic_path
from mmseg.utils.checkpoint import meta_of, read_file
from mmseg.vocabularies import Vocabulary, label_difference, load_vocabulary

from .checkpoints import LOSS_STATE

logger = logging.getLogger(__name__)
STUDENT = 'MaskClipPlus'
KEY = 'student'  # of the metadata of a file: JSON of `describe_student`
RESIZING = ('Resize', 'ResizeShortSide')  # steps of a test pipeline
TRAINING_ONLY = (
    *('teacher', 'text', 'checkpoint', 'unseen', 'robust_loss', 'distill_weight', 'loss_over'),
    *('start_clip_guided', 'start_self_train', 'conf_thresh', 'self_thresh', 'ema_momentum'),
    *('pad_to', 'teacher_at_validation', '_scope_'),
)
NO_SWITCHES = ('type', 'mean_similarity')  # a file, whose path differs between machines


def describe_student(
    config: Settings, metrics: Settings | None = None, measured_on: str = ''
) -> dict[str, Any]:
    """Describe the student of a whole config by JSON values.

    Args:
        config: a Config of `load_config`, before anything of its training is dropped.
        metrics: {'mIoU': 0.36, ...}, if it was evaluated.
        measured_on: what the metrics were measured on.

    Returns:
        `model` builds it from its weights, `pipeline` resizes photos, `version` is this package's;
        `training`, `metrics` and `measured_on` are for readers.
    """
    model = {k: v for k, v in dict(config['model']).items() if k not in TRAINING_ONLY}
    vocabulary = load_vocabulary(model['vocabulary'])
    rows = zip(vocabulary.labels, vocabulary.prompts, vocabulary.palette)
    model['vocabulary'] = [
        f'{label}: {" | ".join(prompts)} #{bytes(colour).hex()}' for label, prompts, colour in rows
    ]
    model['backbone'] = dict(model['backbone'], pretrained=False)
    loader = config.get('test_dataloader') or config.get('val_dataloader') or {}
    steps = loader.get('dataset', {}).get('pipeline') or ()
    described = dict(
        model=model,
        pipeline=[s for s in steps if isinstance(s, Mapping) and s.get('type') in RESIZING],
        training=_describe_training(config),
        metrics=dict(metrics or {}),
        measured_on=measured_on,
        version=mmseg.__version__,
    )
    plain: dict[str, Any] = json.loads(json.dumps(described, default=str))
    return plain


def _describe_training(config: Settings) -> dict[str, Any]:
    """Take from a config what a reader of its student wants to know; files by their name alone"""
    model, loader = config['model'], config.get('train_dataloader') or {}
    teacher = model.get('teacher') or {}
    clip = teacher.get('backbone') or {}
    facts = dict(
        teacher=clip.get('model'),
        teacher_weights=clip.get('pretrained'),
        readout=clip.get('readout'),
        class_weight_of_teacher=(teacher.get('class_weight') or {}).get('tau'),
        stored_labels=config.get('pseudo_labels') and True,
        unseen=config.get('unseen', model.get('unseen')),
        start=model['backbone'].get('pretrained'),
        data=(loader.get('dataset') or {}).get('type'),
        batch=loader.get('batch_size'),
        iterations=(config.get('train_cfg') or {}).get('max_iters'),
    )
    return {
        name: Path(value).name if isinstance(value, (str, Path)) else value
        for name, value in facts.items()
        if value is not None
    }


def write_student(
    state: Mapping[str, Tensor],
    description: Settings,
    path: str | Path,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write a student's weights and description as a .safetensors, whole or not at all.

    Args:
        more: other texts for the metadata.
    """
    metadata = {KEY: json.dumps(description), **(more or {})}
    kept = {k: v.contiguous() for k, v in state.items() if not k.startswith(LOSS_STATE)}
    with atomic_path(path) as temporary:
        save_file(kept, temporary, metadata)


def read_description(path: str | Path) -> dict[str, Any]:
    """Read the description in a student's file: of tools/train.py, or published.

    Raises:
        UserError: no weights file, or one that does not say of what network it is.
    """
    meta = meta_of(None if Path(path).suffix == '.safetensors' else read_file(path), path)
    description = description_in(meta, path)
    if description is None:
        raise UserError(
            f'{path} does not say of what network it is; name its config, and the file as its '
            'checkpoint'
        )
    return description


def description_in(meta: Settings, source: object) -> dict[str, Any] | None:
    """Return the description in `meta_of` a student's file, None if it has none.

    Raises:
        UserError: see `require_description`.
    """
    try:
        value = json.loads(meta[KEY])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return require_description(value, source)


def require_description(value: Any, source: object) -> dict[str, Any]:
    """Return a description that was read from a file of somebody.

    Its types must be those of this package, since mmengine imports and calls any other name.

    Raises:
        UserError: it is no description of a student.
    """
    parts: dict[str, Any] = value if isinstance(value, dict) else {}
    steps = parts.get('pipeline')
    dicts = [parts.get(name) for name in ('model', 'training', 'metrics')]
    dicts += steps if isinstance(steps, list) else [None]
    if not all(isinstance(part, dict) for part in dicts) or parts['model'].get('type') != STUDENT:
        raise UserError(f'{source} describes no student of this project')
    MODELS.import_from_location()
    for part, known in ((parts['model'], MODELS.module_dict), (steps, RESIZING)):
        for name in _types_in(part):
            if name not in known:
                raise UserError(f'{source} names the type {name!r}, which is none of this project')
    return parts


def _types_in(value: Any) -> Iterator[str]:
    """Yield the values of `type` in nested dicts and lists, as text"""
    if isinstance(value, dict) and 'type' in value:
        yield str(value['type'])
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        yield from _types_in(item)


def require_same_training(
    path: str | Path, meta: Settings, vocabulary: Vocabulary, class_weight: Settings | None
) -> None:
    """Compare a student's file with a config; a file without a description is not compared.

    Another class weight is named in a warning, since a student may be tried with another one.

    Args:
        meta: `meta_of` the file.

    Raises:
        UserError: the student was trained with other classes, or in another order.
    """
    description = description_in(meta, path)
    if description is None:
        return
    if difference := vocabulary.difference(_labels(description)):
        raise UserError(f'the student of {path} was trained with other classes: {difference}')
    trained, now = switches_of(description['model'].get('class_weight')), switches_of(class_weight)
    names = [name for name in trained | now if trained.get(name) != now.get(name)]
    changed = [f'{name}={now.get(name)} (trained with {trained.get(name)})' for name in names]
    if changed:
        logger.warning('%s is read with another class_weight: %s', path, ', '.join(changed))


def require_same_run(path: str, checkpoint: dict[str, Any], runner: Runner) -> None:
    """Compare a checkpoint with the run that resumes it.

    Raises:
        UserError: it was trained with other classes; or its weights are a running average, and the
            run has no hook for one: the average would be trained with the student's optimizer.
    """
    description = description_in(checkpoint.get('meta', {}), path)
    if description is not None:
        classes = runner.train_dataloader.dataset.metainfo['classes']
        if difference := label_difference(_labels(description), classes, 'the data set'):
            raise UserError(f'{path} was trained with other classes: {difference}')
    averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks)
    if 'ema_state_dict' in checkpoint and not averaged:
        raise UserError(
            f'{path} was trained with a running average (model.ema_momentum, or EMAHook), which '
            'the config lacks; resume with it, or start a new run by --load-from'
        )


def _labels(description: Settings) -> tuple[str, ...]:
    return load_vocabulary(description['model'].get('vocabulary')).labels


def switches_of(class_weight: Settings | None) -> dict[str, str]:
    """Settings of a class weight -> {'tau': '1.0', ...}, without its towers, text and files"""
    if not isinstance(class_weight, Mapping):
        return {}
    return {
        name: json.dumps(value, default=str)
        for name, value in class_weight.items()
        if name not in NO_SWITCHES and value is not None and not isinstance(value, Mapping)
    }
