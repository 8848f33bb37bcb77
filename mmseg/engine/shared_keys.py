"""Fill in what several parts of a config share from the keys at its top."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mmseg.errors import UserError
from mmseg.utils import Settings

TEXT = 'text.safetensors'  # tools/pseudo_label.py writes it beside the labels
CLIP_SIZE = 224  # pixels of the images that CLIP was trained on
TRAINING, VALIDATION, TEST = 'train_dataloader', 'val_dataloader', 'test_dataloader'
MAKES_TARGET = ('LoadImage', 'RenderScene', 'LoadAnnotations', 'Unlabeled')
WARM_UP = 5  # a warm-up takes at most one of so many iterations; the published ones take fewer


class Resolved(NamedTuple):
    """A config with its shared keys filled in.

    Args:
        sources: where values come from, {'model.vocabulary': 'vocabulary', ...}.
    """

    config: Config
    sources: dict[str, str]

    def fill(self, path: str, value: Any, source: str, replace: bool = True) -> None:
        """Set the value at a path such as 'param_scheduler.0.end'."""
        node, (*parents, name) = self.config, path.split('.')
        for parent in parents:
            node = node[int(parent)] if isinstance(node, (list, tuple)) else node[parent]
        if replace or name not in node:
            node[name] = copy.deepcopy(value)
            self.sources[path] = source

    def datasets(self) -> dict[str, Any]:
        """Map 'train_dataloader.dataset', ... to the settings of each data set."""
        loaders = {name: self.config.get(name) for name in (TRAINING, VALIDATION, TEST)}
        return {
            f'{name}.dataset': loader.dataset
            for name, loader in loaders.items()
            if loader and 'dataset' in loader
        }


def resolve_shared_keys(config: Config, teacher: Settings | None = None) -> Resolved:
    """Copy a config and fill in its shared keys.

    vocabulary: the classes, for model and data.
    unseen: labels without masks in training, or 'all'; for data, metric and a student.
    class_weight: for the model; the data sets cut the crop of the photo that it needs.
    teacher: config file of the MaskCLIP that labels for a student.
    pseudo_labels: folder of tools/pseudo_label.py; its labels and text replace the teacher.
    readout: of the CLIP of a MaskCLIP, or of a student's teacher.
    protocol: size of the photos at validation and test, and the model's windows.
    train_cfg.max_iters: where the last learning rate is reached, and the longest warm-up: a fifth.

    Args:
        teacher: model of the config file that `teacher` names.

    Raises:
        UserError: a key that the other parts of the config have no use for.
    """
    copied = Resolved(copy.deepcopy(config), {})
    _fill_teacher(copied, teacher)
    _fill_classes(copied)
    if config.get('class_weight'):
        _require_same(config, 'class_weight', 'model.class_weight')
        copied.fill('model.class_weight', config.class_weight, 'class_weight')
    if config.get('readout'):
        path = f'{_path_of_clip(copied.config)}.backbone.readout'
        _require_same(config, 'readout', path)
        copied.fill(path, config.readout, 'readout')
    if config.get('protocol'):
        _fill_protocol(copied, config.protocol)
    _fill_pseudo_labels(copied)
    _fill_agreement(copied)
    _fill_prior_crops(copied)
    _fill_schedules(copied)
    return copied


def drop_copies(config: Config) -> None:
    """Remove, in place, what an earlier run filled in, so that options of shared keys reach all"""
    for key, *parents in (
        ('class_weight', 'model'),
        ('readout', 'model', 'backbone'),
        ('readout', 'model', 'teacher', 'backbone'),
        ('vocabulary', 'model'),
        *(('vocabulary', loader, 'dataset') for loader in (TRAINING, VALIDATION, TEST)),
    ):
        node: Any = config
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict | Config) else None
        if config.get(key) and isinstance(node, dict) and node.get(key) == config[key]:
            del node[key]


def _require_same(config: Config, key: str, path: str) -> None:
    """Refuse a shared key beside another value at a path that it fills in"""
    shared, own = config[key], config
    for part in path.split('.'):
        if not isinstance(own, Mapping | Config) or part not in own:
            return
        own = own[part]
    while isinstance(shared, Mapping) and isinstance(own, Mapping):
        names = [name for name, value in own.items() if name not in shared or shared[name] != value]
        if not names:
            return
        key, shared, own = f'{key}.{names[0]}', shared.get(names[0]), own[names[0]]
    if shared != own:
        top = key.partition('.')[0]
        raise UserError(f'{top} and {path} differ; set only {key}')


def _fill_teacher(copied: Resolved, teacher: Settings | None) -> None:
    config = copied.config
    if folder := config.get('pseudo_labels'):
        if not config.get(TRAINING):
            raise UserError(f'{config.filename} trains nothing, so pseudo_labels has no effect')
        copied.fill('model.teacher', None, 'pseudo_labels')
        copied.fill('model.text', str(Path(folder, TEXT)), 'pseudo_labels')
        copied.fill(f'{TRAINING}.dataset.pseudo_labels', folder, 'pseudo_labels')
    elif teacher is not None:
        changed = Config(dict(model=copy.deepcopy(teacher)))
        changed.merge_from_dict({'model': config.model.get('teacher') or {}})
        changed.model.pop('vocabulary', None)  # it has the student's
        copied.fill('model.teacher', changed.model, 'teacher')


def _fill_classes(copied: Resolved) -> None:
    config = copied.config
    is_student = bool(config.get('teacher') or config.get('pseudo_labels'))
    if 'vocabulary' in config:
        _require_same(config, 'vocabulary', 'model.vocabulary')
    for key, in_model in (('vocabulary', True), ('unseen', is_student)):
        for path in ['model'] * in_model + list(copied.datasets()):
            if key in config:
                copied.fill(f'{path}.{key}', config[key], key, replace=False)


def _path_of_clip(config: Config) -> str:
    """Find the MaskCLIP of a config: its model, or the teacher"""
    if config.model.type == 'MaskClip':
        return 'model'
    if not config.model.get('teacher'):
        raise UserError(
            f'{config.filename} has no CLIP that readout could change: its labels were written '
            "before, with the readout of tools/pseudo_label.py's config"
        )
    return 'model.teacher'


def _fill_protocol(copied: Resolved, protocol: Settings) -> None:
    for path, dataset in copied.datasets().items():
        if 'scale' in protocol and not path.startswith(TRAINING) and dataset.get('pipeline'):
            steps = [i for i, name in enumerate(_types_of(dataset)) if name == 'Resize']
            if not steps:
                raise UserError(f'protocol.scale needs a Resize in {path}.pipeline')
            for i in steps:
                copied.fill(f'{path}.pipeline.{i}.scale', tuple(protocol['scale']), 'protocol')
    if protocol.get('windows'):
        copied.fill('model.windows', protocol['windows'], 'protocol')


def _types_of(dataset: Settings) -> list[Any]:
    """List the types of a pipeline's steps, None for a function"""
    steps = dataset.get('pipeline') or ()
    return [step['type'] if isinstance(step, dict) else None for step in steps]


def _fill_pseudo_labels(copied: Resolved) -> None:
    """Load written labels right after the step that makes the target; later steps move both"""
    for path, dataset in copied.datasets().items():
        if not dataset.get('pseudo_labels'):
            continue
        types = _types_of(dataset)
        if 'LoadPseudoLabels' not in types:
            targets = [i for i, name in enumerate(types) if name in MAKES_TARGET]
            position = targets[-1] + 1 if targets else 0
            dataset.pipeline = list(dataset.get('pipeline') or ())
            dataset.pipeline.insert(position, dict(type='LoadPseudoLabels'))
            copied.sources[f'{path}.pipeline.{position}'] = 'pseudo_labels'
        model = copied.config.model
        loss = model.get('robust_loss') or {}
        used = model.get('conf_thresh') or loss.get('confidence_power')
        if path.startswith(TRAINING) and used:
            copied.fill(f'{path}.pseudo_confidence', True, 'model')


def _fill_agreement(copied: Resolved) -> None:
    """Let the teacher label the validation photos where AgreementMetric has no written labels"""
    config = copied.config
    metric, loader = config.get('val_evaluator'), config.get(VALIDATION)
    agreement = isinstance(metric, dict) and metric.get('type') == 'AgreementMetric'
    if agreement and loader and not loader.dataset.get('pseudo_labels'):
        if not config.model.get('teacher'):
            raise UserError(
                'AgreementMetric needs the labels of the teacher for the validation photos: write '
                'them with tools/pseudo_label.py and name val_dataloader.dataset.pseudo_labels'
            )
        copied.fill('model.teacher_at_validation', True, 'val_evaluator')


def _fill_prior_crops(copied: Resolved) -> None:
    """Let data sets cut the crop for a class weight: all, or for a teacher's those it labels"""
    model = copied.config.model
    for owner, source in ((model.get('teacher') or {}, 'model.teacher'), (model, 'model')):
        weight = owner.get('class_weight')
        if not weight or weight.get('crop', 'clip') != 'clip':
            continue
        for path in copied.datasets():
            at_validation = path.startswith(VALIDATION) and model.get('teacher_at_validation')
            if source == 'model' or path.startswith(TRAINING) or at_validation:
                size = weight.get('crop_size', CLIP_SIZE)
                copied.fill(f'{path}.prior_crop_size', size, f'{source}.class_weight')


def _fill_schedules(copied: Resolved) -> None:
    """Reach the last learning rate at the last iteration; shorten a warm-up to a fifth of them"""
    schedules = copied.config.get('param_scheduler') or []
    last = (copied.config.get('train_cfg') or {}).get('max_iters')
    if last is None:
        return
    several = isinstance(schedules, (list, tuple))
    paths = (
        [f'param_scheduler.{i}' for i in range(len(schedules))] if several else ['param_scheduler']
    )
    longest, shortened = max(last // WARM_UP, 1) + 1, set()  # `end` is one more than the iterations
    for path, schedule in zip(paths, schedules if several else [schedules]):
        if _is_warm_up(schedule) and schedule['end'] > longest:
            shortened.add(schedule['end'])
            copied.fill(f'{path}.end', longest, 'train_cfg.max_iters')
        elif schedule.get('begin') in shortened:  # it follows the warm-up
            copied.fill(f'{path}.begin', longest, 'train_cfg.max_iters')
        copied.fill(f'{path}.end', last + 1, 'train_cfg.max_iters', replace=False)


def _is_warm_up(schedule: Settings) -> bool:
    rises = schedule.get('start_factor', 1 / 3) < schedule.get('end_factor', 1.0)
    starts = not schedule.get('begin') and not schedule.get('by_epoch', True)
    return schedule.get('type') == 'LinearLR' and starts and rises and bool(schedule.get('end'))


def protocol_of(config: Config) -> str:
    """Describe how a config tests: '336-slide: photos short side 336, windows of 224 every 112'.

    The description follows the pipeline and the model, whatever keys set them.
    """
    dataset = (config.get(TEST) or {}).get('dataset', {})
    pipeline = dataset.get('pipeline') or ()
    steps = {step['type']: step for step in pipeline if isinstance(step, dict)}
    if 'Resize' in steps:
        long, short = max(steps['Resize']['scale']), min(steps['Resize']['scale'])
        if long >= 3 * short:
            name, text = f'{short}', f'short side {short}, long side up to {long}'
        else:
            name = f'{short}' if long == short else f'{long}x{short}'
            text = f'inside {long} x {short}'
    elif 'ResizeShortSide' in steps:
        name = str(steps['ResizeShortSide']['size'])
        text = f'short side {name}'
    else:
        name, text = 'native', 'as large as they are'
    windows = config.model.get('windows')
    if not windows:
        return f'{name}-whole: photos {text}, in one piece'
    return f'{name}-slide: photos {text}, windows of {windows["size"]} every {windows["stride"]}'
