"""mmengine's training and test, and the configs that describe them."""

from .check_config import check_config
from .config import CONFIGS, find_config, forget_weights, load_config, resolve_config
from .hooks import LabelWriterHook, ProgressHook, SegVisualizationHook
from .launch import allow_tf32, device_of, end_processes, init_processes, keep_freed_memory
from .optimizer import (
    CpuAmpOptimWrapper,
    MatrixDecayConstructor,
    WeightedAmpOptimWrapper,
    WeightedOptimWrapper,
)
from .resume import CheckpointContentHook, changes, read_settings, training_settings
from .runner import SegRunner
from .samplers import SizeSampler, StreamSampler
from .shared_keys import protocol_of, resolve_shared_keys
from .test_loop import SegTestLoop, compile_network
from .train_hooks import (
    AverageStudentHook,
    DeferredLoggingHook,
    LabelLeakHook,
    NonFiniteLossHook,
    TrainProgressHook,
)
from .train_loop import StreamTrainLoop, accumulate_gradients

__all__ = [
    'AverageStudentHook',
    'accumulate_gradients',
    'changes',
    'CONFIGS',
    'CheckpointContentHook',
    'CpuAmpOptimWrapper',
    'LabelLeakHook',
    'LabelWriterHook',
    'DeferredLoggingHook',
    'MatrixDecayConstructor',
    'NonFiniteLossHook',
    'ProgressHook',
    'SegRunner',
    'SegTestLoop',
    'SegVisualizationHook',
    'SizeSampler',
    'StreamSampler',
    'StreamTrainLoop',
    'TrainProgressHook',
    'WeightedAmpOptimWrapper',
    'WeightedOptimWrapper',
    'allow_tf32',
    'check_config',
    'compile_network',
    'device_of',
    'end_processes',
    'find_config',
    'forget_weights',
    'init_processes',
    'keep_freed_memory',
    'load_config',
    'protocol_of',
    'read_settings',
    'resolve_config',
    'resolve_shared_keys',
    'training_settings',
]
