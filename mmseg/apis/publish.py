"""Write a student's weights alone, in safetensors, with metadata that describe them."""

from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config

from mmseg.errors import UserError
from mmseg.models.checkpoints import read_student
from mmseg.models.student_file import (
    describe_student,
    description_in,
    require_same_training,
    write_student,
)
from mmseg.utils import digest_file, read_json
from mmseg.vocabularies import load_vocabulary


def publish(
    config: Config, checkpoint: str | Path, path: str | Path, *, metrics: str | Path | None = None
) -> str:
    """Write a student's checkpoint as a .safetensors without optimizer, teacher or counters.

    Its metadata hold all that `init_model` needs of it, vocabulary, config and version, and the
    metrics of a file of tools/test.py.

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
    description = describe_student(config, *_read_metrics(metrics))
    recorded = description_in(meta, checkpoint)
    if recorded is not None:  # the file knows better how it was trained
        description['training'] = recorded['training']
    more = dict(config=config.pretty_text, mmengine=mmengine.__version__)
    write_student(state, description, path, more)
    return digest_file(path)


def _read_metrics(path: str | Path | None) -> tuple[dict[str, Any], str]:
    """Read the metrics, and what they were measured on"""
    if path is None:
        return {}, ''
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get('metric'), dict):
        raise UserError(f'{path} is no eval_single_scale_*.json of tools/test.py')
    photos, protocol = content.get('photos'), content.get('protocol')
    return content['metric'], f'{photos} photos, protocol {protocol}' if photos else ''
