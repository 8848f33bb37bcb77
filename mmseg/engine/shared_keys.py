"""What several parts of a config need is said once, at its top, and handed to each of them here."""

from pathlib import Path

from mmengine.config import Config

from mmseg.errors import UserError

from .protocol import apply_protocol

TEXT = 'text.safetensors'  # beside the labels of tools/pseudo_label.py
CLIP_VIEW = 224  # pixels of the view that CLIP was trained on
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def resolve_shared_keys(config, path, load):
    """Fill in a Config's parts from its top-level keys, in place.

    `vocabulary`: which classes there are, for model and data. `unseen`: labels of the classes that
    no mask may show in training, or 'all', for data (which hide them), model (whose pseudo-labels
    name them) and metric. `class_weight`: whose view (CLIP's crop of the photo) the data sets must
    cut. `teacher`: the config file of the MaskCLIP that labels for a student.
    `pseudo_labels`: a folder of tools/pseudo_label.py, whose labels and text stand for the teacher.
    `readout`: how the CLIP of a MaskCLIP, or of a student's teacher, is read out. `protocol`: see
    `apply_protocol`.
    The last learning rate is reached at the last iteration, wherever `train_cfg.max_iters` puts it.

    Args:
        load: reads a config file; given by the caller, which is it.
    """
    datasets = {
        name: config[name].dataset
        for name in DATALOADERS
        if config.get(name) and 'dataset' in config[name]
    }
    with_teacher = bool(config.get('teacher') or config.get('pseudo_labels'))
    if config.get('pseudo_labels'):
        if 'train_dataloader' not in datasets:
            raise UserError(f'{path} trains nothing, so it has no use for pseudo_labels')
        config.model.update(teacher=None, text=str(Path(config.pseudo_labels, TEXT)))
        config.train_dataloader.dataset.pseudo_labels = config.pseudo_labels
    elif with_teacher:
        config.model.teacher = _teacher_of(config, load)
    for key, parts in (('vocabulary', [config.model]), ('unseen', [config.model] * with_teacher)):
        if key in config:
            for part in (*parts, *datasets.values()):
                part.setdefault(key, config[key])
    if config.get('class_weight'):
        config.model.class_weight = config.class_weight
    if config.get('readout'):
        _clip_of(config, path).backbone.readout = config.readout
    apply_protocol(config)
    for name, dataset in datasets.items():
        if dataset.get('pseudo_labels'):
            _load_labels(dataset.pipeline)
            if name == 'train_dataloader' and _reads_confidence(config.model):
                dataset.pseudo_confidence = True
    _compare_with_teacher(config)
    _ask_for_views(config.model, datasets)
    for scheduler in config.get('param_scheduler') or ():
        scheduler.setdefault('end', config.train_cfg.max_iters + 1)


def _clip_of(config, path):
    """-> the config's MaskCLIP: its model, or the teacher"""
    found = config.model if config.model.type == 'MaskClip' else config.model.get('teacher')
    if not found:
        raise UserError(
            f'{path} has no CLIP that readout could change: its labels were written before, with '
            "the readout of tools/pseudo_label.py's config"
        )
    return found


def _load_labels(pipeline):
    """Read them after the step that makes the target, so that all later steps move both."""
    if not any(step['type'] == 'LoadPseudoLabels' for step in pipeline):
        loading = ('LoadImage', 'RenderScene', 'LoadAnnotations', 'Unlabeled')
        place = 1 + max(i for i, step in enumerate(pipeline) if step['type'] in loading)
        pipeline.insert(place, dict(type='LoadPseudoLabels'))


def _reads_confidence(model):
    """Settings of a student -> whether its training asks how sure the labels are"""
    loss = model.get('robust_loss') or {}
    return bool(
        model.get('conf_thresh') or loss.get('confidence_power') or loss.get('confidence_ramp')
    )


def _compare_with_teacher(config):
    """Agreement with the teacher needs its labels of the validation photos: made now, or read."""
    evaluator, loader = config.get('val_evaluator'), config.get('val_dataloader')
    judged = isinstance(evaluator, dict) and evaluator.get('type') == 'AgreementMetric'
    if judged and loader and not loader.dataset.get('pseudo_labels'):
        if not config.model.get('teacher'):
            raise UserError(
                'AgreementMetric needs the labels of the teacher for the validation photos: write '
                'them with tools/pseudo_label.py and name val_dataloader.dataset.pseudo_labels'
            )
        config.model.teacher_at_validation = True


def _ask_for_views(model, datasets):
    """The model's class weight looks at every photo, a teacher's only at those of training."""
    teacher = model.get('teacher') or {}
    names = ['train_dataloader'] + ['val_dataloader'] * bool(model.get('teacher_at_validation'))
    training = [datasets[name] for name in names if name in datasets]
    for part, asked in ((teacher, training), (model, datasets.values())):
        weight = part.get('class_weight')
        if weight and weight.get('crop', 'clip') == 'clip':
            for dataset in asked:
                dataset.prior_crop_size = weight.get('crop_size', CLIP_VIEW)


def _teacher_of(config, load):
    """The model of the teacher's config, with what the student's config says of `model.teacher`."""
    words = config.get('vocabulary', config.model.get('vocabulary'))
    leaf = load(config.teacher, {} if words is None else {'vocabulary': words})
    changed = Config(dict(model=leaf.model))
    changed.merge_from_dict({'model': config.model.get('teacher') or {}})
    changed.model.pop('vocabulary', None)
    return changed.model
