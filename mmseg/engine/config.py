"""Config files: Python, so code: run only those you trust."""

import os
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config

from mmseg.errors import UserError
from mmseg.utils import in_checkout, reason_of

from .check_config import check_config
from .shared_keys import resolve_shared_keys

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


def load_config(path, options=None):
    """Python file, {'a.b': value} overrides -> checked Config, its shared keys handed out.

    Some top-level keys concern several parts and are said once: see `resolve_shared_keys`. A
    relative path in a file is looked for beside the file that says it, then in the current folder,
    then in the
    checkout (`pretrain/` and `data/` alone); options are as the shell has them. Options in
    mmsegmentation 0.x's names mean what they meant there.

    Raises:
        UserError: no such file, not a config of this project, an unknown key or type.
    """
    path = Path(path)
    if path.suffix != '.py' or not path.is_file():
        what = 'does not exist' if path.suffix == '.py' else 'is no Python file'
        raise UserError(f'the config {path} {what}; the configs of this project are below configs/')
    with _users_code(path):
        config = Config.fromfile(path)
    _make_paths_absolute(config, _files_of(config))
    with _users_code(path):
        config.merge_from_dict(from_mmseg_0(options or {}))
    _require_ours(config, path)
    resolve_shared_keys(config, path, load_config)
    check_config(config)
    return config


@contextmanager
def _users_code(path: Path):
    """Whatever a config's own code raises, or mmengine about it, is the user's to mend."""
    try:
        yield
    except Exception as error:
        raise UserError(f'the config {path} cannot be read: {reason_of(error)}') from error


def _files_of(config: Config) -> list[tuple[Path, str]]:
    """A Config -> [(folder, text)] of its file and of those that it inherits, its own first.

    mmengine keeps each file's absolute path and its text, one behind the other.
    """
    lines = [line for line in config.text.splitlines() if line.endswith('.py')]
    files = [path for path in map(Path, reversed(lines)) if path.is_absolute() and path.is_file()]
    return [(path.parent, path.read_text(encoding='utf-8')) for path in files]


def _make_paths_absolute(node, files: list[tuple[Path, str]]) -> None:
    """Replace, in place, each path below a node that lies beside its file or in the checkout."""
    for key, value in list(node.items() if hasattr(node, 'items') else enumerate(node)):
        if isinstance(value, (dict, list)):
            _make_paths_absolute(value, files)
        elif isinstance(value, str) and key in FILES | FOLDERS:
            for folder, text in files:
                path = folder / value
                said = repr(value) in text or f'"{value}"' in text
                if said and (path.is_file() or (key in FOLDERS and path.is_dir())):
                    node[key] = os.path.normpath(path)
                    break
            else:
                node[key] = in_checkout(value)


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


def from_mmseg_0(options):
    """{'data.samples_per_gpu': 8, ...} -> {'train_dataloader.batch_size': 8, ...}"""
    renamed = {}
    for key, value in options.items():
        for old, new in MMSEG_0.items():
            if key == old or (old.endswith('.') and key.startswith(old)):
                key = new + key[len(old) :]
                break
        renamed[key] = value
    return renamed
