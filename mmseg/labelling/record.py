"""What decides the labels of a folder, kept beside them: no folder mixes those of two models."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from mmseg.apis.inference import RESIZING
from mmseg.clip.text_files import stored_text
from mmseg.datasets.pseudo_labels import RECORD
from mmseg.engine.shared_keys import TEXT
from mmseg.errors import UserError
from mmseg.models.text_classifier import class_rows
from mmseg.utils import atomic_path, digest_file
from mmseg.utils.tensors import digest_state

from .files import content_of

WEIGHTS = ('pretrained', 'checkpoint')  # settings whose files are compared by what is loaded
CLOSE = 1e-4  # of text rows of norm 1: computed on other hardware, they differ by some 1e-6


def record_of(labeller, options):
    """A Labeller, {option: value} that differ from the usual -> what JSON can hold

    The hardware and the places of files are not part of it: any machine may add to a folder.
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


def source_of(root, path):
    """The folder of all photos or shards, one of them -> what JSON can hold

    The one stands for the folder: where it is found again, unchanged, below another path, the
    folder has moved or is another machine's.
    """
    folder = os.path.realpath(root) if os.path.exists(root) else str(root)  # of scenes: a name
    return dict(folder=folder, one=os.path.relpath(path, root), content=content_of(path))


def settings_of(config):
    """A Config -> settings of the model and of the photo's size, files by their content"""
    model = config.model.to_dict()
    for key in ('vocabulary', 'text'):  # the words are compared by themselves
        model.pop(key, None)
    steps = config.get('test_dataloader', {}).get('dataset', {}).get('pipeline', ())
    resizing = [dict(step) for step in steps if step['type'] in RESIZING]
    return dict(model=_without_paths(model), resizing=resizing)


def _without_paths(value, key=None):
    """The same settings; a file's name becomes the digest of what is in it."""
    if isinstance(value, dict):
        return {name: _without_paths(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_paths(item, key) for item in value]
    if isinstance(value, (str, Path)) and os.path.isfile(value):
        return 'a file' if key in WEIGHTS else digest_file(value)
    return value


def loaded_digest(network):
    """A Segmentor -> sha256 of what was loaded: not of text that was computed from words"""
    modules = nn.ModuleDict(dict(network=network))
    for name, module in network.named_modules():
        frozen = getattr(module, 'frozen', {})
        modules.update({f'{name}_{k}'.replace('.', '_'): m for k, m in frozen.items()})
    tensors = dict(modules.named_parameters()) | dict(modules.named_buffers())
    stored = modules.state_dict()  # a student's text is in its checkpoint
    text = ('conv_seg.embeddings', 'class_weight.text')
    return digest_state({k: v for k, v in tensors.items() if k in stored or not k.endswith(text)})


def text_of(labeller):
    """-> (C, D): the rows that a student of these labels compares its features with"""
    network = labeller.network
    rows = class_rows(network.decode_head.conv_seg.rows(), network.scoring.groups)
    return rows.detach().cpu().contiguous()


def keep_record(out, record, text):
    """Write labels.json and the (C, D) text, or find there what agrees with them.

    Raises:
        UserError: the folder's labels are of another folder's photos, another model's, or of other
            words; which keys differ.
    """
    old, rows = _read_record(out / RECORD), stored_text(out / TEXT)
    if old is not None:
        _require_source(out, old['source'], record['source']['folder'])
    other = [] if old is None else differing(old, {**record, 'source': old['source']})
    if rows is not None and not alike(rows, text):
        other.append(TEXT)
    if other:
        more = ', ...' if other[5:] else ''
        raise UserError(
            f'{out} holds labels of other {", ".join(other[:5])}{more}; choose another --out, or '
            'remove them'
        )
    if rows is None:
        with atomic_path(out / TEXT) as temporary:
            save_file({'text': text}, temporary)
    if old is None:
        with atomic_path(out / RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + '\n')


def _require_source(out, old, folder):
    """Refuse photos of another folder than the one that is recorded"""
    one = Path(folder, old.get('one', ''))
    if old.get('folder') != folder and old.get('content') != content_of(one):
        known = old.get('folder', 'an unknown folder')
        raise UserError(
            f'{out} holds labels of the photos of {known}, not of {folder}; choose another --out, '
            'or remove them'
        )


def differing(old, new, where=()):
    """Two values of JSON -> the keys, such as 'settings.model.windows', in which they differ"""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*new, *old])
        return [d for key in keys for d in differing(old.get(key), new.get(key), (*where, key))]
    return [] if old == new else ['.'.join(where)]


def alike(rows, others):
    """(C, D), (C, D) of any hardware -> whether they are the same text"""
    return rows.shape == others.shape and torch.allclose(rows, others, rtol=0, atol=CLOSE)


def _read_record(path):
    try:
        record = json.loads(path.read_text())
        return record | dict(source=dict(record.get('source') or {}))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f'{path} is damaged; remove it if its folder is yours to add to') from error
