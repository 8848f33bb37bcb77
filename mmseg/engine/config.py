"""Read config files. They are Python, so code: run only those you trust."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.errors import UserError
from mmseg.utils import RESOURCES, Settings, in_checkout, nearest, reason_of, short_repr

from .check_config import check_config
from .shared_keys import Resolved, drop_copies, resolve_shared_keys

CONFIGS = RESOURCES / 'configs'
_WHERE = f'the configs of this project are below {CONFIGS}'
_LEAVES = '[!_]*/**/*.py'  # all but the bases
READING = threading.RLock()  # held while `Config._file2dict` is replaced

# Keys whose text may name a file, or a folder.
FILES = {
    'teacher',
    'vocabulary',
    'checkpoint',
    'pretrained',
    'model',
    'text',
    'file',
    'mean_similarity',
}
FOLDERS = {'data_root', 'pseudo_labels'}

# --cfg-options of mmsegmentation 0.x -> ours; whole keys, or what they start with.
MMSEG_0 = {
    'data.samples_per_gpu': 'train_dataloader.batch_size',
    'data.workers_per_gpu': 'train_dataloader.num_workers',
    'data.train.': 'train_dataloader.dataset.',
    'data.val.': 'val_dataloader.dataset.',
    'data.test.': 'test_dataloader.dataset.',
    'optimizer.': 'optim_wrapper.optimizer.',
    'runner.max_iters': 'train_cfg.max_iters',
    'evaluation.interval': 'train_cfg.val_interval',
    'checkpoint_config.interval': 'default_hooks.checkpoint.interval',
    'log_config.interval': 'default_hooks.logger.interval',
}


def load_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, fill in its shared keys and check it.

    See `resolve_shared_keys` for the shared keys. A relative path is looked for beside the file
    that sets it, then in the current folder, then (`pretrain/` and `data/` alone) in the checkout.

    Args:
        path: the file, or the name of one of this project's, see `find_config`.
        options: overrides, {'model.decode_head.type': ..., ...}; their paths are the shell's.
            Names of mmsegmentation 0.x are translated.

    Raises:
        UserError: no such file, not a config of this project, or a mistake in it.
    """
    return resolve_config(path, options).config


def resolve_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Resolved:
    """Load a config as `load_config`, and record which values were filled in, and from where."""
    path = find_config(path)
    try:
        with _paths_of_each_file():
            config = Config.fromfile(path)
    except Exception as error:  # of the user's code
        raise UserError(f'the config {path} cannot be read: {reason_of(error)}') from error
    _complete_paths(config, None)
    drop_copies(config)
    merge_options(config, options or {}, path)
    _require_our_config(config, path)
    check_config(config, complete=False)
    resolved = resolve_shared_keys(config, _read_teacher(config, path))
    _require_kept(options or {}, resolved)
    check_config(resolved.config)
    return resolved


def _require_kept(options: Mapping[str, Any], resolved: Resolved) -> None:
    """Refuse an option whose value the config's protocol replaces"""
    for path in (path for path, source in resolved.sources.items() if source == 'protocol'):
        for option, value in options.items():
            rest = path.removeprefix(option)
            if rest != path and rest[:1] in ('', '.'):
                before, now = _value_at(value, rest), _value_at(resolved.config, path)
                if before is not None and before != now:
                    key = 'protocol.' + path.rpartition('.')[2]
                    raise UserError(f'{option} has no effect, as {key} sets it; set {key}')


def _value_at(node: Any, path: str) -> Any:
    """Read the value at a path such as 'pipeline.1.scale', None where there is none"""
    for part in filter(None, path.split('.')):
        if isinstance(node, (list, tuple)):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, Mapping | Config) else None
    return node


def find_config(name: str | Path) -> Path:
    """Find a config by its path, or one of this project's by its name; see `config_path`.

    Raises:
        UserError: no such file, with the nearest name; or no Python file.
    """
    path = config_path(name)
    if path is not None:
        return path
    if Path(name).is_file():
        raise UserError(f'the config {name} is no Python file; {_WHERE}')
    hint = nearest(Path(name).stem, [file.stem for file in CONFIGS.glob(_LEAVES)])
    raise UserError(f'the config {name} does not exist{hint}; {_WHERE}')


def config_path(name: str | Path) -> Path | None:
    """Find a config by its path, or one of this project's by its name; None if there is none.

    'maskclip/maskclip_r50_520x520_pascal_context_59.py' and the same below `configs/` mean a file
    below `CONFIGS` if the current folder has none; so does the name alone, with or without .py.
    """
    path = Path(name)
    if path.is_file():
        return path if path.suffix == '.py' else None
    parts = path.parts[path.parts[:1] == ('configs',) :]
    below = CONFIGS.joinpath(*parts[:-1], f'{path.name.removesuffix(".py")}.py')
    if below.is_file():
        return below
    leaves = CONFIGS.glob(_LEAVES) if len(parts) == 1 else ()
    return next((file for file in leaves if file.stem == below.stem), None)


def merge_options(config: Config, options: Mapping[str, Any], path: str | Path) -> None:
    """Override keys of a config, in place.

    Raises:
        UserError: `path`, for the message, has no such key to override.
    """
    options = from_mmseg_0(options)
    try:
        config.merge_from_dict(options)
    except Exception as error:  # mmengine raises several types
        text = ', '.join(f'{key}={short_repr(value)}' for key, value in options.items())
        message = f'{path} cannot be overridden by {text}: {reason_of(error)}'
        raise UserError(message) from error


@contextmanager
def _paths_of_each_file() -> Iterator[None]:
    """Make the paths in each config file absolute as soon as mmengine has read that file.

    `Config._file2dict` reads a file, and calls itself for the `_base_` files. mmengine has no hook
    between them, so it is replaced here for a moment.
    """

    def read_with_paths(filename: str, *args: Any, **options: Any) -> tuple[dict, str, dict]:
        settings, text, variables = read_file(filename, *args, **options)
        folder = Path(filename).absolute().parent
        _complete_paths(settings, folder)
        return settings, text, variables

    with READING:
        read_file = Config._file2dict
        Config._file2dict = staticmethod(read_with_paths)
        try:
            yield
        finally:
            Config._file2dict = staticmethod(read_file)


def _complete_paths(node: Any, folder: Path | None) -> None:
    """Complete, in place, the paths that exist below a folder; None stands for the checkout"""
    for key, value in list(node.items() if hasattr(node, 'items') else enumerate(node)):
        if isinstance(value, (dict, list, tuple)):
            _complete_paths(value, folder)
        elif isinstance(value, str) and key in FILES | FOLDERS:
            if folder is None:
                node[key] = in_checkout(value)
            elif (folder / value).is_file() or (key in FOLDERS and (folder / value).is_dir()):
                node[key] = os.path.normpath(folder / value)


def _read_teacher(config: Config, path: Path) -> Settings | None:
    """Read the model of a teacher's config file, for the classes of the student"""
    if not config.get('teacher') or config.get('pseudo_labels'):
        return None
    if not Path(config.teacher).is_file():
        raise UserError(f"teacher '{config.teacher}' in {path} does not exist")
    words = config.get('vocabulary', config.model.get('vocabulary'))
    options = {} if words is None else {'vocabulary': words, 'model.vocabulary': words}
    return load_config(config.teacher, options).model


def _require_our_config(config: Config, path: Path) -> None:
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


def from_mmseg_0(options: Mapping[str, Any]) -> dict[str, Any]:
    """Rename options of mmsegmentation 0.x: data.workers_per_gpu -> train_dataloader.num_workers"""
    renamed = {}
    for key, value in options.items():
        for old, new in MMSEG_0.items():
            if key == old or (old.endswith('.') and key.startswith(old)):
                key = new + key[len(old) :]
                break
        renamed[key] = value
    return renamed


def forget_weights(config: Config) -> None:
    """Replace, in place, a model's files by random towers, students from scratch, and short texts.

    For what does not depend on the values of weights, such as speed, memory and counts.
    """
    for model in filter(None, (config.model, config.model.get('teacher'))):
        parts, texts = [model.backbone], [model.decode_head] if model.type == 'MaskClip' else []
        parts += filter(None, [model.backbone.get('proxy')])
        weight = model.get('class_weight')
        if weight:
            parts += filter(None, [weight.get('prior_encoder')])
            texts.append(weight)
        for part in parts:
            is_student = part is model.backbone and model.type != 'MaskClip'
            part.pretrained = False if is_student else 'random'
        for part in texts:
            part.text = dict(templates='name')
