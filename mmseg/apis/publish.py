"""Write a student's weights alone, in safetensors, with metadata that describe them."""

import json
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config
from safetensors.torch import save_file

import mmseg
from mmseg.errors import UserError
from mmseg.models.checkpoints import read_student, require_same_training, switches_of
from mmseg.utils import atomic_path, digest_file, read_json
from mmseg.vocabularies import load_vocabulary


def publish(
    config: Config, checkpoint: str | Path, path: str | Path, *, metrics: str | Path | None = None
) -> str:
    """Write a student's checkpoint as a .safetensors without optimizer, teacher or counters.

    Its metadata hold vocabulary, config and version, and the metrics of a file of tools/test.py.

    Args:
        config: the student's.
        checkpoint: of tools/train.py.
        path: the file to write.
        metrics: an eval_single_scale_*.json of tools/test.py.

    Returns:
        sha256 of the file.

    Raises:
        UserError: no student, other classes than the config's, or another suffix.
    """
    path = Path(path)
    if path.suffix != '.safetensors':
        raise UserError(f'{path} does not end in .safetensors')
    if config.model.type != 'MaskClipPlus':
        raise UserError(f'{config.filename} is no student; only students are published')
    (state, meta), vocabulary = read_student(checkpoint), load_vocabulary(config.model.vocabulary)
    require_same_training(str(checkpoint), meta, vocabulary, config.model.get('class_weight'))
    rows = len(state['decode_head.conv_seg.embeddings'])
    if rows != len(vocabulary):
        raise UserError(f'{checkpoint} knows {rows} classes, the config {len(vocabulary)}')
    words = dict(labels=vocabulary.labels, prompts=vocabulary.prompts, palette=vocabulary.palette)
    metadata = dict(
        vocabulary=json.dumps(words),
        class_weight=json.dumps(switches_of(config.model.get('class_weight'))),
        config=config.pretty_text,
        metrics=json.dumps(_read_metrics(metrics)),
        mmseg=mmseg.__version__,
        mmengine=mmengine.__version__,
    )
    with atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata)
    return digest_file(path)


def _read_metrics(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get('metric'), dict):
        raise UserError(f'{path} is no eval_single_scale_*.json of tools/test.py')
    return content['metric']
