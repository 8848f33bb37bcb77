"""Engines: what computes the features of a network, and in which precision.

An engine replaces the functions that turn pixels into features (`parts_of`). Text, class weights,
windows, resizing and labels stay in PyTorch, so every setting and any words work as without it.
"""

import hashlib
import json
import threading
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mmseg.errors import UserError, require_packages
from mmseg.kernels import X86, is_plain
from mmseg.utils import PACKAGE, atomic_path, cache_folder, library_errors, reason_of
from mmseg.utils.onnx_files import (
    Runner,
    int8_settings,
    onnx_providers,
    onnx_runner,
    openvino_precisions,
    openvino_runner,
    quantise,
    write_onnx,
)
from mmseg.utils.tensors import digest_state

from .maskclip import MaskClip
from .maskclip_plus import MaskClipPlus
from .segmentor import Segmentor

EngineName = Literal['torch', 'onnxruntime', 'openvino']
Precision = Literal['auto', 'fp32', 'tf32', 'bf16', 'fp16', 'int8']
ENGINES, PRECISIONS = typing.get_args(EngineName), typing.get_args(Precision)
DTYPES = dict(fp32=torch.float32, tf32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
Size = tuple[int, int] | None  # (H, W) of the only input that an export takes; None for any
HINTS = dict(fp32='f32', int8='f32', bf16='bf16', fp16='f16')  # OpenVINO's names
AGREEMENT = 0.999  # share of the labels that an engine keeps in fp32
CALIBRATED, COMPARED = 8, 8  # photos that int8 is calibrated on, and that labels are compared on
COMPARED_IN_FP32 = 2
KEPT = 16  # exported files in the cache
SOURCES = ('clip', 'models', 'kernels.py', 'utils/onnx_files.py')  # that make an exported file
PACKAGES = ('torch', 'open_clip_torch', 'timm', 'onnx', 'onnxscript')


def precisions_of(name: EngineName, device: str) -> set[str]:
    """Return what an engine computes on a device of this machine."""
    if name == 'openvino':
        return openvino_precisions(device)
    if name == 'onnxruntime':
        return {'fp32', 'int8'} if device == 'cpu' or onnx_providers(device) else set()
    without = {'bf16'} if device == 'cpu' and not has_bf16() else set()
    return set(DTYPES) - without


def has_bf16() -> bool:
    """Tell whether this CPU multiplies bf16, and does not emulate it."""
    if X86:
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Engine:
    """What computes the features of networks on a device, in a precision.

    Args:
        name: one of ENGINES.
        precision: one of PRECISIONS. 'auto' is fp32, and for PyTorch on accelerators fp16, where it
            is as fast as bf16 and changes ten times fewer labels (docs/performance.md). For 'tf32'
            see `mmseg.engine.allow_tf32`.
        device: where the network is.

    Attributes:
        mode: 'run' for the engine; 'torch' for PyTorch in fp32; 'record' for that, keeping images
            to calibrate on.

    Raises:
        UserError: a package is missing, or the engine or this machine lacks the precision.
    """

    def __init__(self, name: EngineName, precision: Precision, device: str) -> None:
        if name not in ENGINES:
            raise UserError(f'engine is one of {", ".join(ENGINES)}, not {name!r}')
        if precision == 'auto':
            precision = 'fp16' if name == 'torch' and device != 'cpu' else 'fp32'
        self.name, self.precision, self.device = name, precision, device
        self.mode: Literal['run', 'torch', 'record'] = 'run'
        self.lock = threading.RLock()
        subject = f'the engine {name}'
        if name == 'onnxruntime':
            require_packages(subject, 'onnx', 'onnxscript', 'onnxruntime')
        if name == 'openvino':
            require_packages(subject, 'openvino', extra='openvino')
            require_packages(subject, 'onnx', 'onnxscript')
        known = precisions_of(name, device)
        if precision not in known:
            names = ', '.join(p for p in PRECISIONS if p in known) or 'nothing'
            raise UserError(f'{subject} computes {names} on this {device}, not {precision}')

    @property
    def is_default(self) -> bool:
        """Tell whether it is PyTorch in fp32, so that nothing is replaced."""
        return self.name == 'torch' and self.precision in ('fp32', 'tf32')

    def __str__(self) -> str:
        return f'{self.name} {self.precision}'

    def choose(self, count: int) -> list[int]:
        """Choose those of so many photos that `start` needs, evenly spaced.

        Raises:
            UserError: int8 without any photo.
        """
        if self.precision == 'int8' and not count:
            raise UserError('int8 is calibrated on photos, and none are named')
        most = dict(fp32=COMPARED_IN_FP32, int8=CALIBRATED + COMPARED).get(self.precision, COMPARED)
        most = min(most, count)
        return [i * count // most for i in range(most)]

    def install(self, network: Segmentor) -> None:
        """Replace the heavy functions of a network. Other networks may share these functions."""
        for owner, names in parts_of(network):
            for name in names:
                function = getattr(owner, name)
                if not isinstance(function, Part):
                    setattr(owner, name, Part(self, owner, name, function))
                elif function.engine is not self:
                    setattr(owner, name, Part(self, owner, name, function.function))

    def start(
        self, network: Segmentor, labellers: Sequence[Callable[[], Tensor]], what: str = 'photos'
    ) -> str:
        """Run a network by this engine, and compare its labels with PyTorch's in fp32.

        Args:
            labellers: each labels a photo by the network. int8 is calibrated on every second photo
                and compared on the others.
            what: name of what is labelled.

        Returns:
            A line on the share of pixels whose label stays.

        Raises:
            UserError: the engine cannot run the network, or changes labels in fp32.
        """
        self.install(network)
        compared = labellers
        if self.precision == 'int8':
            compared = labellers[1::2] or labellers
            self._label('record', labellers[::2])
        expected = self._label('torch', compared)
        found = self._label('run', compared)
        same = sum(int((a == b).sum()) for a, b in zip(expected, found))
        share = same / sum(labels.numel() for labels in expected)
        if self.precision == 'fp32' and share < AGREEMENT:
            raise UserError(
                f'{self} keeps {100 * share:.2f} % of the labels only; use the engine torch'
            )
        return f'{self} keeps {100 * share:.2f} % of the labels of {len(compared)} {what}'

    def _label(
        self, mode: Literal['run', 'torch', 'record'], labellers: Sequence[Callable[[], Tensor]]
    ) -> list[Tensor]:
        self.mode = mode
        try:
            return [label() for label in labellers]
        finally:
            self.mode = 'run'

    def export(
        self, part: 'Part', images: Sequence[Tensor], size: tuple[int, int] | None
    ) -> Runner:
        """Export a part, or find it in the cache, and load it.

        Args:
            images: (N, 3, H, W) each, to calibrate int8 on.
            size: see `Size`.

        Raises:
            UserError: the engine cannot run it, or the file in the cache is not what it should be.
        """
        try:
            content = dict(part.content(), size=size)
            path = _cached(content, lambda path, meta: part.write(path, meta, size))
            if self.precision == 'int8':
                inputs = [image.float().cpu().numpy() for image in images]
                content['int8'] = dict(images=_digest(inputs), **int8_settings())
                source = path
                path = _cached(content, lambda path, meta: quantise(source, path, inputs, meta))
        except UserError:
            raise
        except Exception as error:  # those of the exporters have no common type
            cause: BaseException = error
            while cause.__cause__ is not None:  # around the reason is advice for programmers
                cause = cause.__cause__
            raise UserError(
                f'{self} cannot run this network ({reason_of(cause)}); use the engine torch'
            ) from error
        with library_errors(f'{self} cannot load {path}', 'remove it'):
            if self.name == 'openvino':
                run, known = openvino_runner(path, self.device, HINTS[self.precision])
            else:
                run, known = onnx_runner(path, self.device)
        if known.get('content') != _text(content):
            raise UserError(f'{path} is an export of other weights or settings; remove it')
        return run


class Part:
    """A function of a network, run by an engine in its place: (N, 3, H, W) -> tensors.

    Args:
        engine: the Engine.
        owner: the module with the weights.
        name, function: the function, a method of the owner.

    Raises:
        UserError: a readout that compares features with the text in between.
    """

    def __init__(
        self, engine: Engine, owner: nn.Module, name: str, function: Callable[..., Any]
    ) -> None:
        readout: Any = getattr(owner, 'readout', None)
        if engine.name != 'torch' and readout is not None and readout.feedback is not None:
            raise UserError(
                f'{engine.name} cannot run a readout with feedback, which reads the text; use the '
                'engine torch'
            )
        self.engine, self.owner, self.name, self.function = engine, owner, name, function
        self.images: list[Tensor] = []
        self.structure: Any = None  # of the function's result
        self.runners: dict[Size, Runner] = {}

    def __call__(self, image: Tensor, *context: Any) -> Any:
        """Compute what the function does. Only PyTorch reads the context."""
        engine = self.engine
        if engine.mode != 'run' or is_plain():
            if engine.mode == 'record' and len(self.images) < CALIBRATED:
                self.images.append(image.cpu())
            return self.function(image, *context)
        if engine.name == 'torch':
            dtype = DTYPES[engine.precision]
            kind, half = engine.device.partition(':')[0], dtype != torch.float32
            with torch.autocast(kind, dtype, enabled=half):
                return pytree.tree_map(lambda x: x.float(), self.function(image, *context))
        run = self._runner(image)
        problem = f'{engine} cannot run this network on {image.shape[3]} x {image.shape[2]} pixels'
        with library_errors(problem, 'use the engine torch'):
            arrays = run(image.float().cpu().numpy())
        tensors = [torch.from_numpy(array).to(image.device) for array in arrays]
        return pytree.tree_unflatten(tensors, self.structure)

    def _runner(self, image: Tensor) -> Runner:
        """Return what runs inputs of this size; make it if there is none yet."""
        size = None
        if self.name == 'embed':  # at CLIP's own size nothing is padded or resized
            tower: Any = self.owner.tower
            own = tower.visual.image_size
            own = own if isinstance(own, tuple) else (own, own)
            size = own if tuple(image.shape[2:]) == own else None
        with self.engine.lock:
            if size not in self.runners:
                if self.structure is None:
                    self.structure = pytree.tree_structure(self.function(image))
                seen = [x for x in self.images if size in (None, tuple(x.shape[2:]))]
                self.runners[size] = self.engine.export(self, seen or [image], size)
            return self.runners[size]

    def content(self) -> dict[str, Any]:
        """Describe all that decides an exported file."""
        tensors = dict(self.owner.named_parameters()) | dict(self.owner.named_buffers())
        return dict(
            function=self.name,
            weights=digest_state(tensors),
            modules=_digest([repr(settings_of(self.owner)).encode()]),
            code=_code_digest(),
            packages={name: version(name) for name in PACKAGES},
        )

    @torch.inference_mode(False)
    @torch.no_grad()
    def write(self, path: Path, metadata: Mapping[str, str], size: Size) -> None:
        """Write the function as an ONNX file."""
        device = next(self.owner.parameters()).device
        image = torch.rand(2, 3, *(size or (128, 160)), device=device) * 255
        module = _Function(self.owner, self.function).eval()
        write_onnx(module, image, path, metadata, any_size=not size)


class _Function(nn.Module):
    """A function of a module, as a module to export."""

    def __init__(self, owner: nn.Module, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.owner, self.function = owner, function

    def forward(self, image: Tensor) -> Any:
        return self.function(image)


def parts_of(network: Segmentor) -> list[tuple[nn.Module, Sequence[str]]]:
    """List the modules of a network with their functions from pixels to features.

    Raises:
        UserError: an exported file, which has a runtime of its own.
    """
    if isinstance(network, MaskClip):
        owners: list[Any] = [(network.backbone, ('forward', 'forward_with_embedding', 'embed'))]
    elif isinstance(network, MaskClipPlus):
        owners = [(network, ('features',))]
    else:
        raise UserError('an exported file has its own engine')
    frozen = {} if network.class_weight is None else network.class_weight.frozen
    return owners + [(encoder, ('embed',)) for encoder in frozen.values()]


def settings_of(owner: nn.Module) -> list[Any]:
    """List the types and the plain attributes of all modules, which decide what they compute."""
    found = []
    for name, module in owner.named_modules():
        values = {key: _plain(value) for key, value in vars(module).items()}
        found.append((name, type(module).__qualname__, sorted(values.items())))
    return found


def _plain(value: Any) -> str:
    """Describe a number, a string, a function, a dataclass, or a sequence of these; else ''"""
    if isinstance(value, (bool, int, float, str, type(None))) or is_dataclass(value):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f'({", ".join(map(_plain, value))})'
    is_function = isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType))
    return value.__qualname__ if is_function else ''


def _cached(content: Mapping[str, Any], write: Callable[[Path, dict[str, str]], None]) -> Path:
    """Return the file of this content in the cache; write it if there is none."""
    text = _text(content)
    folder = cache_folder() / 'engines'
    path = folder / f'{hashlib.sha256(text.encode()).hexdigest()[:32]}.onnx'
    if path.is_file():
        with suppress(OSError):  # somebody else's
            path.touch()
        return path
    with atomic_path(path) as temporary:
        write(temporary, dict(content=text))
    newest = sorted(folder.glob('*.onnx'), key=lambda file: -file.stat().st_mtime)
    for file in newest[KEPT:]:
        file.unlink(missing_ok=True)
    return path


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)


def _digest(parts: Sequence[bytes | np.ndarray]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return sha.hexdigest()


def _code_digest() -> str:
    """Compute the sha256 of the code that makes exported files."""
    paths = [PACKAGE / name for name in SOURCES]
    files = [f for p in paths for f in ([p] if p.is_file() else sorted(p.rglob('*.py')))]
    return _digest([file.read_bytes() for file in files])
