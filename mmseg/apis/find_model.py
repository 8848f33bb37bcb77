"""Find a model by what a user calls it: a file, a folder, or a name here or on the hub."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmengine.config import Config

from mmseg.engine import find_config
from mmseg.engine.config import config_path, merge_options
from mmseg.errors import UserError
from mmseg.models.hub import CONFIG, WEIGHTS, fetch_student
from mmseg.models.student_file import read_description

EXPORTED = ('.onnx', '.xml')  # of tools/export.py, and of OpenVINO
TRAINED = ('.pth', '.pt', '.bin', '.safetensors')
HUB_NAME = re.compile(r'[\w.-]+/[\w.-]+')


class Found(NamedTuple):
    """A model that was found.

    Attributes:
        kind: what `path` is: a config file, an exported file, or a student's weights.
        description: of the student, see `mmseg.models.student_file`.
    """

    kind: Literal['config', 'exported', 'student']
    path: Path
    description: Mapping[str, Any] | None = None


def find_model(name: str | Path) -> Found:
    """Find a model by what a user calls it, see `mmseg.apis.init_model`.

    What is here comes before the configs of this project, and these before the hub.

    Raises:
        UserError: nothing of this name holds a model.
    """
    path = Path(name)
    if path.suffix in EXPORTED + TRAINED:
        if not path.is_file():
            raise UserError(f'no such file: {path}')
        if path.suffix in EXPORTED:
            return Found('exported', path)
        return Found('student', path, read_description(path))
    converted = sorted(path.glob('*.xml')) if path.is_dir() else []
    if len(converted) == 1:
        return Found('exported', converted[0])
    config = config_path(name)
    if not (path / CONFIG).is_file():
        on_hub = path.suffix != '.py' and not path.is_file() and HUB_NAME.fullmatch(str(name))
        if config is None and path.is_dir():
            raise UserError(
                f'the folder {path} holds no model: neither {CONFIG} and {WEIGHTS} of a student, '
                'nor one .xml of OpenVINO'
            )
        if config is not None or not on_hub:
            return Found('config', config or find_config(name))
    description, weights = fetch_student(name)
    return Found('student', weights, description)


def student_config(
    description: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> Config:
    """Make the config of a student from its description, with options that override it.

    Raises:
        UserError: an option of something that the description does not have.
    """
    dataset = dict(pipeline=description['pipeline'])
    config = Config(dict(model=description['model'], test_dataloader=dict(dataset=dataset)))
    for key in options or ():
        if not key.startswith(('model.', 'test_dataloader.dataset.pipeline.')):
            raise UserError(f'a student without its config has no {key} to override')
    merge_options(config, dict(options or {}), 'the config of the student')
    return config
