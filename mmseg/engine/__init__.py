from .check_config import check_config
from .config import load_config
from .hooks import LabelWriterHook, ProgressHook, SegVisualizationHook
from .launch import device_of, end_processes, init_processes
from .param_groups import MatrixDecayConstructor
from .protocol import apply_protocol, protocol_of
from .runner import SegRunner
from .sampler import StreamSampler
from .size_sampler import SizeSampler
from .test_loop import PRECISIONS, SegTestLoop, autocast_of, prepare_for_test
from .train_hooks import LabelLeakHook, NonFiniteLossHook, TrainProgressHook
from .train_loop import CpuAmpOptimWrapper, StreamTrainLoop

__all__ = [
    'CpuAmpOptimWrapper',
    'LabelLeakHook',
    'LabelWriterHook',
    'MatrixDecayConstructor',
    'NonFiniteLossHook',
    'ProgressHook',
    'PRECISIONS',
    'SegRunner',
    'SegTestLoop',
    'SegVisualizationHook',
    'SizeSampler',
    'StreamSampler',
    'StreamTrainLoop',
    'TrainProgressHook',
    'apply_protocol',
    'autocast_of',
    'check_config',
    'device_of',
    'end_processes',
    'init_processes',
    'load_config',
    'protocol_of',
    'prepare_for_test',
]
