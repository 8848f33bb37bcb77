"""Exported files as models: ONNX of `mmseg.apis.export`, and what OpenVINO converts from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Interval, Len
from torch import Tensor

from mmseg.datasets.transforms import Resize, ResizeShortSide
from mmseg.errors import UserError
from mmseg.models.postprocess import Scoring
from mmseg.models.segmentor import Segmentor
from mmseg.utils import library_errors, reason_of, require_setting
from mmseg.utils.onnx_files import Runner, onnx_runner, openvino_runner
from mmseg.vocabularies import Vocabulary

Byte = Annotated[int, Interval(ge=0, le=255)]
METADATA: dict[str, Any] = dict(
    classes=list[str],
    palette=list[Annotated[list[Byte], Len(3, 3)]],
    resize=list[dict],
    scale=float | None,
)


class ExportedNetwork(Segmentor):
    """A network in a file, whose logits have the size of its input.

    Args:
        run: (N, 3, H, W) float32 RGB in 0..255 -> [(N, C, H, W)].
        num_classes: C.
        scale: see `Scoring`.
    """

    def __init__(self, run: Runner, num_classes: int, scale: float | None) -> None:
        super().__init__(score_stride=1, scoring=Scoring(scale=scale))
        self.run, self.num_classes = run, num_classes

    def window_logits(self, image: Tensor, embedding: Tensor | None = None) -> tuple[Tensor, None]:
        """Run the file: (N, 3, H, W) -> (N, C, H, W), None; see `Segmentor`

        Raises:
            UserError: it refuses this size, or gives something else than scores.
        """
        size = (len(image), self.num_classes, *image.shape[2:])
        with library_errors(f'the model cannot run on {size[3]}x{size[2]}', 'try another size'):
            (scores,) = self.run(image.cpu().numpy())
        if scores.shape != size:
            raise UserError(f'the model gives scores {scores.shape}, not {size} as its classes')
        return torch.from_numpy(scores).to(image), None


def load_exported(path: Path, device: str) -> tuple[ExportedNetwork, Vocabulary, list[Any]]:
    """Load a file of tools/export.py, or its conversion by OpenVINO.

    Returns:
        The network, its classes, and the steps that resize a photo for it.

    Raises:
        UserError: the runtime is not installed, or the file is damaged or of another project.
    """
    load = openvino_runner if path.suffix == '.xml' else onnx_runner
    with library_errors(f'{path} cannot be read as a model', 'export it again'):
        run, known = load(path, device)
    try:
        return _described(run, known, path.stem)
    except KeyError as error:
        reason = f'it lacks {error}'
    except (TypeError, ValueError, RecursionError, UserError) as error:
        reason = reason_of(error)
    raise UserError(
        f'{path} was not written by this version of tools/export.py ({reason}); export it again'
    )


def _described(
    run: Runner, known: Mapping[str, str], name: str
) -> tuple[ExportedNetwork, Vocabulary, list[Any]]:
    """Read the metadata of a file; errors of several types if another project wrote it"""
    values = {key: json.loads(known[key]) for key in METADATA}
    for key, annotation in METADATA.items():
        require_setting(key, values[key], annotation)
    names, colours = values['classes'], values['palette']
    words, palette = tuple((name,) for name in names), tuple(map(tuple, colours))
    vocabulary = Vocabulary(name, tuple(names), words, palette)
    steps = [_resizing(step) for step in values['resize']]
    return ExportedNetwork(run, len(names), values['scale']).eval(), vocabulary, steps


def _resizing(step: Mapping[str, Any]) -> Resize | ResizeShortSide:
    """Undo `mmseg.apis.export.resizing` for one step"""
    if 'short_side' in step:
        return ResizeShortSide(step['short_side'], step['multiple'])
    return Resize(step['fit'])
