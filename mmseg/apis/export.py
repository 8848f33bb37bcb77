"""Export networks to files that run without this package: ONNX, OpenVINO, TensorRT, PyTorch."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.datasets.transforms import Resize
from mmseg.engine import device_of
from mmseg.errors import UserError, require_packages
from mmseg.models.postprocess import checksum, require_finite_scores
from mmseg.utils import atomic_path, library_errors
from mmseg.utils.onnx_files import Runner, onnx_runner, openvino_core, openvino_runner, write_onnx
from mmseg.vocabularies import Vocabulary

SIZES = ((2, 96, 128), (1, 161, 115))  # batch, height, width that a file is checked on: one odd
AGREEMENT = 0.999
SUFFIXES = {'onnx': '.onnx', 'torch-export': '.pt2', 'openvino': '.xml', 'tensorrt': '.engine'}
TENSORRT_SIZES = (1, 3, 64, 64), (1, 3, 512, 512), (4, 3, 1024, 1024)  # least, usual, most
WITHOUT = {  # steps between scores and labels, and the options that leave them out
    'model.windows': 'model.windows=None protocol.windows=None',
    'model.post': 'model.post=None',
    'model.scoring.prob_thd': 'model.scoring.prob_thd=0',
    'model.scoring.area_thd': 'model.scoring.area_thd=0',
}


def require_scores_alone(network: Any, subject: str) -> None:
    """Refuse a network whose labels are more than the best of its scores.

    Raises:
        UserError: windows, post-processing or thresholds, which `subject` cannot have.
    """
    values = (network.windows, network.post, network.scoring.prob_thd, network.scoring.area_thd)
    keys = [key for key, value in zip(WITHOUT, values, strict=True) if value]
    if keys:
        raise UserError(
            f'{subject} cannot have {", ".join(keys)} of this config; leave out what you can do '
            f'without: --cfg-options {" ".join(WITHOUT[key] for key in keys)}'
        )


class Exported(nn.Module):
    """The scores of a network at its input's size.

    Shapes: (N, 3, H, W) RGB in 0..255 -> (N, C, H, W).

    Args:
        network: a Segmentor without a class weight, windows, post-processing and thresholds. Where
            it resizes twice (Q15), so does this, to a photo of the input's size.

    Raises:
        UserError: a network with one of these.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        if network.prior_crop is not None:
            raise UserError(
                'a class weight runs a CLIP on the photo, which cannot be exported; export a '
                'config without one'
            )
        require_scores_alone(network, 'an exported file')
        self.network = network
        self.stride = None if network.resize_twice else network.score_stride

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        scores = self.network.batch_logits(image)
        size = [height, width]
        if self.stride is not None:
            size = [cells * self.stride for cells in scores.shape[2:]]
        scores = F.interpolate(scores, size, mode='bilinear', align_corners=False)
        for axis, pixels in ((2, height), (3, width)):  # as an item, which multiplies no stride
            kept = torch.scalar_tensor(pixels, dtype=torch.int64).item()
            scores = scores.narrow(axis, 0, cast(int, kept))
        return self.network.scoring.by_class(scores)


def resizing(transforms: Sequence[Any]) -> list[dict[str, Any]]:
    """Describe the resizing steps of a test pipeline for `demo/run_exported.py`.

    {'fit': (long, short)} is as large as fits, {'short_side': n, 'multiple': m} is rounded.
    """
    return [
        dict(fit=step.scale)
        if isinstance(step, Resize)
        else dict(short_side=step.size, multiple=step.multiple)
        for step in transforms
    ]


def export(
    network: Any,
    vocabulary: Vocabulary,
    path: str | Path,
    *,
    file_format: str,
    transforms: Sequence[Any] = (),
) -> float:
    """Write a network as a file, and check the file against the network on two sizes.

    Args:
        network: a Segmentor on the CPU.
        vocabulary: its classes.
        path: the file.
        file_format: 'onnx', 'torch-export', 'openvino' (with a .bin beside the file) or 'tensorrt'.
        transforms: `Resize` and `ResizeShortSide` that make a photo the network's input.

    Returns:
        The smallest share of pixels on which file and network agree.

    Raises:
        UserError: the network has a class weight, windows, post-processing or thresholds, or
            an operator without a counterpart, or labels that differ.
    """
    path = check_format(path, file_format)
    module = Exported(network).eval().requires_grad_(False)
    metadata = dict(
        classes=json.dumps(vocabulary.labels),
        palette=json.dumps(vocabulary.palette),
        resize=json.dumps(resizing(transforms)),
        scale=json.dumps(network.scoring.scale),
        input='image: (N, 3, H, W) float32, RGB in 0..255',
        output='scores: (N, C, H, W) float32, the class of a pixel has the highest',
    )
    write, load = FORMATS[file_format]
    with atomic_path(path) as temporary:
        weights = temporary.with_suffix('.bin')  # of OpenVINO alone
        try:
            write(module, temporary, metadata)
            run = load(temporary)
            agreement = min(_agreement(network, run, size) for size in SIZES)
            if agreement < AGREEMENT:
                raise UserError(f'the file agrees with the network on {100 * agreement:.2f} % only')
            if weights.is_file():
                os.replace(weights, path.with_suffix('.bin'))
        finally:
            weights.unlink(missing_ok=True)
    return agreement


def check_format(path: str | Path, file_format: str) -> Path:
    """Return a file's path if its suffix is that of the format.

    Raises:
        UserError: it is not, or the format is unknown.
    """
    if file_format not in SUFFIXES or Path(path).suffix != SUFFIXES[file_format]:
        formats = ' or '.join(f'--format {k} with a {s} file' for k, s in SUFFIXES.items())
        raise UserError(f'{path} cannot be written as {file_format}; use {formats}')
    return Path(path)


def _example() -> Tensor:
    return torch.rand(2, 3, 128, 160) * 255


def _write_onnx(module: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    write_onnx(module, _example(), path, metadata, outputs=['scores'])


def _write_openvino(module: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write an .xml, and its weights as a .bin beside it."""
    core = openvino_core('the format openvino')
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'model.onnx')
        _write_onnx(module, source, metadata)
        openvino.save_model(core.read_model(source), path, compress_to_fp16=False)


def _write_tensorrt(module: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write a plan in IEEE's fp32 for this machine's accelerator, for inputs of TENSORRT_SIZES."""
    require_packages('the format tensorrt', 'tensorrt', extra='tensorrt')
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'model.onnx')
        _write_onnx(module, source, metadata)
        if not parser.parse_from_file(str(source)):
            raise UserError(f'TensorRT cannot read this network: {parser.get_error(0).desc()}')
    profile = builder.create_optimization_profile()
    profile.set_shape('image', *TENSORRT_SIZES)
    settings = builder.create_builder_config()
    settings.add_optimization_profile(profile)
    settings.clear_flag(tensorrt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, settings)
    if plan is None:
        raise UserError('TensorRT cannot build this network; use the format onnx')
    path.write_bytes(plan)


def _tensorrt_runner(path: Path) -> Runner:
    import tensorrt

    device = device_of()
    runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
    context = runtime.deserialize_cuda_engine(path.read_bytes()).create_execution_context()

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        image = torch.from_numpy(pixels).to(device).contiguous()
        context.set_input_shape('image', tuple(image.shape))
        scores = torch.empty(tuple(context.get_tensor_shape('scores')), device=device)
        context.set_tensor_address('image', image.data_ptr())
        context.set_tensor_address('scores', scores.data_ptr())
        stream = torch.get_device_module(device).current_stream()
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return [scores.cpu().numpy()]

    return run


def _write_program(module: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    with library_errors('PyTorch cannot export this network for any size', 'use --format onnx'):
        program = torch.export.export(
            module,
            (_example(),),
            dynamic_shapes={'image': {d: torch.export.Dim.AUTO for d in (0, 2, 3)}},
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        torch.export.save(program, path, extra_files=metadata)


def _program_runner(path: Path) -> Runner:
    module = torch.export.load(path).module()
    return lambda image: [module(torch.from_numpy(image)).numpy()]


@torch.no_grad()
def _agreement(network: Any, run: Runner, size: tuple[int, int, int]) -> float:
    """Return the share of pixels with the network's label, on smooth noise of this size."""
    batch, height, width = size
    coarse = torch.rand(batch, 3, 6, 8, generator=torch.Generator().manual_seed(0)) * 255
    image = F.interpolate(coarse, (height, width), mode='bilinear', align_corners=False)
    logits = network.query_logits(list(image))
    require_finite_scores(checksum(torch.stack(logits)), 'the photos that the file is checked with')
    expected = [network.labels(x, (height, width), photo) for x, photo in zip(logits, image)]
    (scores,) = run(image.numpy())
    return float((torch.stack(expected).numpy() == scores.argmax(axis=1)).mean())


Writer = Callable[[nn.Module, Path, dict[str, str]], None]
FORMATS: dict[str, tuple[Writer, Callable[[Path], Runner]]] = {
    'onnx': (_write_onnx, lambda path: onnx_runner(path)[0]),
    'torch-export': (_write_program, _program_runner),
    'openvino': (_write_openvino, lambda path: openvino_runner(path)[0]),
    'tensorrt': (_write_tensorrt, _tensorrt_runner),
}
