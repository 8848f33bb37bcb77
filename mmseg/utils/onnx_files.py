"""ONNX files: write a network, quantise it to int8, run it by onnxruntime or OpenVINO."""

import functools
import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmseg.errors import require_packages

# (N, 3, H, W) float32 -> the outputs of the network
Runner = Callable[[np.ndarray], list[np.ndarray]]
PERCENTILE = 99.999  # of the values of a layer's input that int8 covers; larger ones are cut off
NO_DEVICE = ('CPU', 'Azure')  # of onnxruntime's providers
LAYERS, ACTIVATIONS = ('Conv', 'Gemm', 'MatMul'), ('Relu', 'Clip')


def write_onnx(
    module: nn.Module,
    image: Tensor,
    path: Path,
    metadata: Mapping[str, str],
    *,
    outputs: Sequence[str] | None = None,
    any_size: bool = True,
) -> None:
    """Write a module as an ONNX file that takes any batch, height and width.

    Args:
        module: takes (N, 3, H, W).
        image: an example of N >= 2.
        metadata: texts to keep in the file.
        outputs: names of the outputs.
        any_size: False keeps height and width as they are in the example.

    Raises:
        UserError: a package is missing. Errors of the export pass through.
    """
    require_packages('an ONNX file', 'onnx', 'onnxscript')  # torch.onnx needs the latter
    import onnx

    dims: dict[int, Any] = {0: torch.export.Dim('batch', min=1, max=256)}
    if any_size:
        dims[2] = torch.export.Dim('height', min=32, max=8192)
        dims[3] = torch.export.Dim('width', min=32, max=8192)
    logging.getLogger('onnxscript').setLevel(logging.ERROR)  # it names what it leaves as it is
    program = torch.onnx.export(
        module,
        (image,),
        dynamo=True,
        dynamic_shapes={'image': dims},
        input_names=['image'],
        output_names=outputs,
        verbose=False,
    )
    assert program is not None  # it is for dynamo=True
    model = program.model_proto
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def onnx_providers(device: str) -> list[str]:
    """List what onnxruntime has for an accelerator; for a CPU nothing more is needed."""
    import onnxruntime

    known = onnxruntime.get_available_providers()
    return [] if device == 'cpu' else [x for x in known if x.partition('Exec')[0] not in NO_DEVICE]


def onnx_runner(path: Path, device: str = 'cpu') -> tuple[Runner, Mapping[str, str]]:
    """Load an ONNX file by onnxruntime; return what runs it, and its metadata.

    Threads wait without spinning, so a machine that others use too loses no time to it.

    Raises:
        UserError: onnxruntime is not installed. Its own errors pass through.
    """
    require_packages('an ONNX file', 'onnxruntime')
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    providers = [*onnx_providers(device), 'CPUExecutionProvider']
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    known = session.get_modelmeta().custom_metadata_map
    return lambda image: session.run(None, {'image': image}), known


def openvino_core(subject: str) -> Any:
    """Return OpenVINO's core, one for the whole process.

    The CPU plugin of a core gives its thread a stack for signals, and puts the former one back when
    the core is gone. Of two cores the second puts back what the first has freed, and the next
    signal (Ctrl-C, the end of a worker) ends the process with a segmentation fault.

    Args:
        subject: what needs OpenVINO.

    Raises:
        UserError: OpenVINO is not installed.
    """
    require_packages(subject, 'openvino', extra='openvino')
    return _core()


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def openvino_runner(
    path: Path, device: str = 'cpu', precision: str = 'f32'
) -> tuple[Runner, Mapping[str, str]]:
    """Load an ONNX file, or OpenVINO's own .xml; return what runs it, and its metadata.

    Args:
        precision: 'f32', 'bf16' or 'f16'. By default OpenVINO takes bf16 where a CPU has it.

    Raises:
        UserError: OpenVINO is not installed. Its own errors pass through.
    """
    core = openvino_core(str(path))
    model = core.read_model(path)
    known: Mapping[str, str] = {}
    if model.has_rt_info(['framework']):  # where it keeps the metadata of an ONNX file
        known = {k: str(value) for k, value in model.get_rt_info(['framework']).value.items()}
    settings: dict[str, Any] = dict(INFERENCE_PRECISION_HINT=precision)
    if device == 'cpu':
        settings['INFERENCE_NUM_THREADS'] = torch.get_num_threads()
    compiled = core.compile_model(model, 'CPU' if device == 'cpu' else 'AUTO', settings)

    def run(image: np.ndarray) -> list[np.ndarray]:
        results = compiled.infer_new_request(image)  # of any thread
        return [results[i] for i in range(len(compiled.outputs))]

    return run, known


def openvino_precisions(device: str) -> set[str]:
    """Return what OpenVINO computes on a device of this machine: {'fp32', 'int8', ...}."""
    name, core = 'CPU' if device == 'cpu' else 'GPU', openvino_core('the engine openvino')
    if name not in (found.partition('.')[0] for found in core.available_devices):
        return set()
    return {str(x).lower() for x in core.get_property(name, 'OPTIMIZATION_CAPABILITIES')}


def quantise(
    source: Path, target: Path, images: Sequence[np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write the int8 form of an ONNX file, calibrated on images (static quantisation).

    Inputs of layers with weights are uint8, their weights int8 per channel. Outputs of convolutions
    are uint8 too, or onnxruntime computes them in fp32. The ranges are percentiles of the values in
    the calibration. Products of activations, as in attention, and all else stay fp32.

    Args:
        images: (N, 3, H, W) float32 each.

    Raises:
        UserError: a package is missing. onnxruntime's own errors pass through.
    """
    require_packages('int8', 'onnx', 'onnxruntime')
    import onnx
    from onnxruntime.quantization import QDQQuantizer, QuantType

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        ranges = _ranges(Path(shutil.copy(source, folder)), images)
        model = onnx.load(source)
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=[node.name for node in _quantised(model)],
            nodes_to_exclude=[],
            op_types_to_quantize=[*LAYERS, *ACTIVATIONS],
            extra_options=dict(OpTypesToExcludeOutputQuantization=['MatMul', 'Gemm']),
        )
        quantizer.quantize_model()
        model = quantizer.model.model
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, target)


def int8_settings() -> dict[str, Any]:
    """Describe what decides an int8 file beside its source and its images."""
    import onnxruntime

    return dict(percentile=PERCENTILE, onnxruntime=onnxruntime.__version__)


def _quantised(model: Any) -> list[Any]:
    """List the nodes of layers with weights, and the activations that may follow them.

    The layer that reads pixels and a ViT's last two stay fp32: a hundredth of its products, half of
    the error of int8 (docs/performance.md).
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [
        node
        for node in model.graph.node
        if node.op_type in ACTIVATIONS or (node.op_type in LAYERS and node.input[1] in weights)
    ]
    layers = [node for node in nodes if node.op_type in LAYERS]
    last = [node for node in layers[-2:] if node.op_type != 'Conv']
    precise = {node.name for node in (*layers[:1], *last)}
    return [node for node in nodes if node.name not in precise]


def _ranges(source: Path, images: Sequence[np.ndarray]) -> Any:
    """Measure the range of every tensor that becomes uint8, as onnxruntime's `TensorsData`.

    It writes files beside the source.
    """
    from onnxruntime.quantization.calibrate import PercentileCalibrater

    class Calibrater(PercentileCalibrater):
        """Leave out the products of activations, whose histograms take most of the time."""

        def select_tensors_to_calibrate(self, model: Any) -> tuple[set[str], dict[str, Any]]:
            tensors, known = super().select_tensors_to_calibrate(model)
            wanted = {name for x in _quantised(model) for name in (x.input[0], x.output[0])}
            return tensors & wanted, known

    calibrater = Calibrater(
        str(source),
        [*LAYERS, *ACTIVATIONS],
        str(source.with_suffix('.augmented.onnx')),
        percentile=PERCENTILE,
    )
    calibrater.augment_graph()
    calibrater.create_inference_session()
    for image in images:  # one at a time: it holds all these tensors of what it is given
        batches = iter([dict(image=image), None])
        calibrater.collect_data(SimpleNamespace(get_next=batches.__next__))
    return calibrater.compute_data()
