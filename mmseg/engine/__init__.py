from .accumulate import accumulate_gradients
from .check_config import check_config
from .config import load_config
from .hooks import LabelWriterHook, ProgressHook, SegVisualizationHook
from .late_info import LateInfoHook
from .launch import device_of, end_processes, init_processes, keep_freed_memory
from .param_groups import MatrixDecayConstructor
from .runner import SegRunner
from .sampler import StreamSampler
from .train_hooks import LabelLeakHook, NonFiniteLossHook, TrainProgressHook
from .train_loop import CpuAmpOptimWrapper, StreamTrainLoop

__all__ = [
    'accumulate_gradients',
    'CpuAmpOptimWrapper',
    'LabelLeakHook',
    'LabelWriterHook',
    'LateInfoHook',
    'MatrixDecayConstructor',
    'NonFiniteLossHook',
    'ProgressHook',
    'SegRunner',
    'SegVisualizationHook',
    'StreamSampler',
    'StreamTrainLoop',
    'TrainProgressHook',
    'check_config',
    'device_of',
    'end_processes',
    'init_processes',
    'keep_freed_memory',
    'load_config',
]
