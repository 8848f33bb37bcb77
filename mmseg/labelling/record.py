"""Record the settings that decide the labels of a folder, so that no folder mixes two models."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmseg.apis.inference import RESIZING
from mmseg.clip.text_files import stored_text, write_text_embeddings
from mmseg.datasets.pseudo_labels import RECORD
from mmseg.engine.shared_keys import TEXT
from mmseg.errors import UserError
from mmseg.models.frozen import frozen_modules
from mmseg.models.text_classifier import class_rows
from mmseg.utils import digest_file, write_json
from mmseg.utils.tensors import digest_state

from .units import content_of

if TYPE_CHECKING:
    from .labeller import Labeller

WEIGHTS = ('pretrained', 'checkpoint')  # settings whose files are compared by what is loaded
CLOSE = 1e-4  # of text rows of norm 1: computed on other hardware, they differ by some 1e-6


def record_of(labeller: 'Labeller', options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a Labeller, and options that differ from the defaults, in JSON's types.

    Hardware and file paths are left out, so any machine may add to a folder.
    """
    network, words = labeller.network, labeller.words
    record = dict(
        classes=labeller.names,
        palette=labeller.palette,
        threshold=labeller.threshold,
        **options,
        prompts=words.vocabulary.prompts,
        settings=settings_of(labeller.model.config),
        layers=sorted({type(module).__name__ for module in network.modules()}),
        weights_sha256=loaded_digest(network),
    )
    return json.loads(json.dumps(record, default=str))


def source_of(root: str | Path, path: str | Path) -> dict[str, str]:
    """Describe the folder of all photos or shards by one of them, in JSON's types.

    If that file is unchanged below another path, the folder has moved or is another machine's.
    """
    folder = os.path.realpath(root) if os.path.exists(root) else str(root)  # of scenes: a name
    return dict(folder=folder, one=os.path.relpath(path, root), content=content_of(path))


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings of the model and of the photo's size, files by their content."""
    model = config.model.to_dict()
    for key in ('vocabulary', 'text'):  # the words are compared by themselves
        model.pop(key, None)
    steps = config.get('test_dataloader', {}).get('dataset', {}).get('pipeline', ())
    resizing = [dict(step) for step in steps if step['type'] in RESIZING]
    return dict(model=_without_paths(model), resizing=resizing)


def _without_paths(value: Any, key: str | None = None) -> Any:
    """Replace the names of files in settings by digests of their content."""
    if isinstance(value, dict):
        return {name: _without_paths(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_paths(item, key) for item in value]
    if isinstance(value, (str, Path)) and os.path.isfile(value):
        return 'a file' if key in WEIGHTS else digest_file(value)
    return value


def loaded_digest(network: nn.Module) -> str:
    """Return the sha256 of the weights that were loaded, without text computed from words."""
    modules = nn.ModuleDict(dict(network=network))
    modules.update({f'frozen_{k}'.replace('.', '_'): m for k, m in frozen_modules(network)})
    tensors = dict(modules.named_parameters()) | dict(modules.named_buffers())
    stored = modules.state_dict()  # a student's text is in its checkpoint
    text = ('conv_seg.embeddings', 'class_weight.text')
    return digest_state({k: v for k, v in tensors.items() if k in stored or not k.endswith(text)})


def text_of(labeller: 'Labeller') -> Tensor:
    """Return the text (C, D) that a student of these labels compares its features with."""
    network = labeller.network
    rows = class_rows(network.decode_head.conv_seg.rows(), network.scoring.groups)
    return rows.detach().cpu().contiguous()


def keep_record(out: Path, record: Mapping[str, Any], text: Tensor) -> None:
    """Write labels.json and the (C, D) text, or compare them with the existing ones.

    Raises:
        UserError: the labels there are of another folder's photos, another model or other words;
            it names the keys that differ.
    """
    old, rows = _read_record(out / RECORD), stored_text(out / TEXT)
    if old is not None:
        _require_source(out, old['source'], record['source']['folder'])
    different = [] if old is None else differing(old, {**record, 'source': old['source']})
    if rows is not None and not alike(rows, text):
        different.append(TEXT)
    if different:
        more = ', ...' if different[5:] else ''
        raise UserError(
            f'{out} holds labels of other {", ".join(different[:5])}{more}; choose another --out, '
            'or remove them'
        )
    if rows is None:
        write_text_embeddings(out / TEXT, text)
    if old is None:
        write_json(out / RECORD, record)


def _require_source(out: Path, old: Mapping[str, Any], folder: str) -> None:
    one = Path(folder, old.get('one', ''))
    if old.get('folder') != folder and old.get('content') != content_of(one):
        known = old.get('folder', 'an unknown folder')
        raise UserError(
            f'{out} holds labels of the photos of {known}, not of {folder}; choose another --out, '
            'or remove them'
        )


def differing(old: Any, new: Any, where: tuple[str, ...] = ()) -> list[str]:
    """List the keys, such as 'settings.model.windows', in which two values of JSON differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*new, *old])
        return [d for key in keys for d in differing(old.get(key), new.get(key), (*where, key))]
    return [] if old == new else ['.'.join(where)]


def alike(rows: Tensor, others: Tensor) -> bool:
    """Return whether two (C, D), computed on any hardware, are the same text."""
    return rows.shape == others.shape and torch.allclose(rows, others, rtol=0, atol=CLOSE)


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text())
        return record | dict(source=dict(record.get('source') or {}))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f'{path} is damaged; remove it if its folder is yours to add to') from error
