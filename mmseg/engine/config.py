"""Config files: Python, so code: run only those you trust."""

from pathlib import Path

from mmengine.config import Config

from mmseg.errors import UserError

from .check_config import check_config

CLIP_VIEW = 224  # pixels of the view that CLIP was trained on
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load_config(path, options=None):
    """Python file, {'a.b': value} overrides -> checked Config, its shared keys handed out.

    Three top-level keys concern several parts and are said once: `vocabulary`, which classes there
    are; `class_weight`, whose view (CLIP's crop of the photo) the data sets must cut; `teacher`,
    the config file, relative to this one, of the MaskCLIP that labels for a student.

    Raises:
        UserError: no such file, not a config of this project, an unknown key or type.
    """
    path = Path(path)
    if path.suffix != '.py' or not path.is_file():
        what = 'does not exist' if path.suffix == '.py' else 'is no Python file'
        raise UserError(f'the config {path} {what}; the configs of this project are below configs/')
    try:
        config = Config.fromfile(path)
        config.merge_from_dict(options or {})
    except UserError:
        raise
    except Exception as error:  # whatever the file's own code raises
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(f'the config {path} cannot be read: {reason}') from error
    _require_ours(config, path)
    _hand_out(config, path)
    check_config(config)
    return config


def _require_ours(config, path):
    if isinstance(config.get('data'), dict) and 'test_dataloader' not in config:
        raise UserError(
            f'{path} is a config of mmsegmentation 0.x (it has `data`); docs/design.md '
            'says how it carries over'
        )
    if not isinstance(config.get('model'), dict) or 'type' not in config.model:
        raise UserError(
            f'{path} has no model = dict(type=...): it is no config of this project; '
            'start from one below configs/'
        )


def _hand_out(config, path):
    datasets = [
        config[name].dataset
        for name in DATALOADERS
        if config.get(name) and 'dataset' in config[name]
    ]
    if config.get('teacher'):
        config.model.teacher = _teacher_of(config, path)
    if 'vocabulary' in config:
        for part in (config.model, *datasets):
            part.setdefault('vocabulary', config.vocabulary)
    if config.get('class_weight'):
        config.model.class_weight = config.class_weight
        for dataset in datasets:
            if config.class_weight.get('view', 'clip') == 'clip':
                dataset.clip_view = config.class_weight.get('view_size', CLIP_VIEW)


def _teacher_of(config, path):
    """The model of the teacher's config, with what the student's config says of `model.teacher`."""
    leaf = load_config(path.parent / config.teacher)
    changed = Config(dict(model=leaf.model))
    changed.merge_from_dict({'model': config.model.get('teacher') or {}})
    changed.model.pop('vocabulary', None)
    return changed.model
