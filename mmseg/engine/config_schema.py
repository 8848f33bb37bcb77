"""Declare the top-level keys of a config, and types that mmengine and PyTorch leave open.

Each function here is a signature only: its parameters are the keys of one dict of a config.
"""

from typing import Annotated, Any, Literal

from annotated_types import Interval
from mmengine import registry
from mmengine.runner import LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils.dl_utils import set_multi_processing
from pydantic import AllowInfNan

from mmseg.models import ClassWeight, Windows
from mmseg.registry import DATA_SAMPLERS, DATASETS, HOOKS, LOOPS, METRICS, MODELS, OPTIM_WRAPPERS
from mmseg.utils import Builds, Count, Fraction, NotNegative, Positive, Seed, Settings, Whole

from .optimizer import WeightedOptimWrapper

BelowOne = Annotated[float, Interval(ge=0, lt=1)]
Hook = Annotated[Settings, HOOKS]


def data_loader(
    *,
    dataset: Annotated[Settings, DATASETS],
    sampler: Annotated[Settings, DATA_SAMPLERS],
    batch_size: Count = 1,
    batch_sampler: Annotated[Settings, DATA_SAMPLERS] | None = None,
    collate_fn: Annotated[Settings, registry.FUNCTIONS] | None = None,
    drop_last: bool = False,
    in_order: bool = True,
    multiprocessing_context: str | None = None,
    num_batch_per_epoch: Count | None = None,
    num_workers: Whole = 0,
    persistent_workers: bool = False,
    pin_memory: bool = False,
    pin_memory_device: str = '',
    prefetch_factor: Count | None = None,
    shuffle: Literal[False] = False,
    timeout: NotNegative = 0,
    worker_init_fn: Annotated[Settings, registry.FUNCTIONS] | None = None,
) -> None:
    """List the keys of a data loader: torch's, and those that mmengine builds."""


def environment(
    *,
    cudnn_benchmark: bool = False,
    mp_cfg: Annotated[Settings, Builds(set_multi_processing)] = {},  # noqa: B006
    dist_cfg: Settings = {},  # noqa: B006
    resource_limit: Count = 4096,
) -> None:
    """List the keys of `env_cfg`."""


def protocol(
    *,
    scale: tuple[Count, Count] | None = None,
    windows: Annotated[Settings, Builds(Windows)] | None = None,
) -> None:
    """List the keys of `protocol`: the (long, short) side of photos, and the sliding windows."""


def parameter_groups(
    *,
    lr_mult: dict[str, NotNegative] = {},  # noqa: B006
    adamw: list[str] = [],  # noqa: B006
    custom_keys: dict[str, dict[str, NotNegative]] = {},  # noqa: B006
    bias_lr_mult: NotNegative = 1.0,
    bias_decay_mult: NotNegative = 1.0,
    norm_decay_mult: NotNegative = 1.0,
    flat_decay_mult: NotNegative = 1.0,
    dwconv_decay_mult: NotNegative = 1.0,
    dcn_offset_lr_mult: NotNegative = 1.0,
    bypass_duplicate: bool = False,
) -> None:
    """List the keys of `paramwise_cfg`, of both constructors."""


def gradient_clipping(
    *,
    type: Literal['norm', 'value'] = 'norm',
    max_norm: Annotated[Positive, AllowInfNan(True)] = 1.0,
    norm_type: Positive | Literal['inf'] = 2.0,
    error_if_nonfinite: bool = False,
    clip_value: Positive = 1.0,
) -> None:
    """List the keys of `clip_grad`."""


def learning_rate_scaling(*, base_batch_size: Count, enable: bool = False) -> None:
    """List the keys of `auto_scale_lr`."""


def evaluator(
    *, metrics: Annotated[Settings, METRICS] | list[Annotated[Settings, METRICS]]
) -> None:
    """List the keys of an evaluator that is a dict of metrics."""


Evaluator = Annotated[Settings, Builds(evaluator), METRICS, registry.EVALUATOR]
Loader = Annotated[Settings, Builds(data_loader)]


def config(
    *,
    vocabulary: str | list[str] = '',
    unseen: Literal['all'] | list[str] | None = None,
    class_weight: Annotated[Settings, Builds(ClassWeight)] | None = None,
    teacher: str | None = None,
    pseudo_labels: str | None = None,
    readout: str | Settings | None = None,
    protocol: Annotated[Settings, Builds(protocol)] | None = None,
    model: Annotated[Settings, MODELS],
    train_dataloader: Loader | None = None,
    val_dataloader: Loader | None = None,
    test_dataloader: Loader | None = None,
    train_cfg: Annotated[Settings, LOOPS] | None = None,
    val_cfg: Annotated[Settings, Builds(ValLoop), LOOPS] | None = None,
    test_cfg: Annotated[Settings, Builds(TestLoop), LOOPS] | None = None,
    val_evaluator: Evaluator | list[Evaluator] | None = None,
    test_evaluator: Evaluator | list[Evaluator] | None = None,
    optim_wrapper: Annotated[Settings, Builds(WeightedOptimWrapper), OPTIM_WRAPPERS] | None = None,
    auto_scale_lr: Annotated[Settings, Builds(learning_rate_scaling)] | None = None,
    param_scheduler: Annotated[Settings, registry.PARAM_SCHEDULERS]
    | list[Annotated[Settings, registry.PARAM_SCHEDULERS]]
    | None = None,
    default_hooks: dict[str, Hook | None] | None = None,
    custom_hooks: list[Hook] | None = None,
    randomness: Annotated[Settings, Builds(Runner.set_randomness)] = {},  # noqa: B006
    env_cfg: Annotated[Settings, Builds(environment)] = {},  # noqa: B006
    visualizer: Annotated[Settings, registry.VISUALIZERS] | None = None,
    log_processor: Annotated[Settings, Builds(LogProcessor), registry.LOG_PROCESSORS] | None = None,
    log_level: str | int = 'INFO',
    default_scope: str = 'mmseg',
    custom_imports: Settings = {},  # noqa: B006
    compile: bool | Settings = False,
    tf32: bool = False,
    device: str | None = 'cpu',
    sync_bn: bool = False,
    launcher: Literal['none', 'pytorch', 'slurm'] = 'none',
    work_dir: str | None = None,
    experiment_name: str | None = None,
    load_from: str | None = None,
    resume: bool | None = False,
) -> None:
    """List the top-level keys of a config; the shared ones stand first."""


# Parameters that mmengine passes itself when it builds something of a registry.
PASSED = {
    DATA_SAMPLERS: {'dataset', 'sampler', 'batch_size'},
    LOOPS: {'runner', 'dataloader', 'evaluator'},
    OPTIM_WRAPPERS: {'optimizer'},
    registry.OPTIMIZERS: {'params'},
    registry.PARAM_SCHEDULERS: {'optimizer', 'param_name', 'epoch_length'},
    registry.VISBACKENDS: {'save_dir'},
}
# Keys that mmengine takes out of the dict before it builds something of a registry.
TAKEN: dict[Any, dict[str, Any]] = {
    HOOKS: dict(priority=int | str),
    OPTIM_WRAPPERS: dict(
        optimizer=Annotated[Settings, registry.OPTIMIZERS],
        constructor=str,
        paramwise_cfg=Annotated[Settings, Builds(parameter_groups)] | None,
    ),
    registry.PARAM_SCHEDULERS: dict(convert_to_iter_based=bool),
}
# Parameters of mmengine and PyTorch whose annotation is missing or too weak.
NARROWER: dict[str, Any] = dict(
    accumulative_counts=Count,
    begin=Whole,
    betas=tuple[BelowOne, BelowOne],
    by_epoch=bool,
    clip_grad=Annotated[Settings, Builds(gradient_clipping)] | None,
    dtype=Literal['float16', 'bfloat16', 'float32', 'float64'] | None,
    end=Count,
    eps=NotNegative,
    eta_min=NotNegative,
    interval=Count,
    loss_scale=Literal['dynamic'] | Positive | Settings,
    lr=NotNegative,
    max_iters=Count,
    max_keep_ckpts=Count | Literal[-1],
    momentum=Fraction,
    power=Positive,
    save_begin=Whole,
    seed=Seed | None,
    start_factor=Annotated[float, Interval(gt=0, le=1)],
    end_factor=Fraction,
    val_begin=Whole,
    val_interval=Count,
    vis_backends=list[Annotated[Settings, registry.VISBACKENDS]] | None,
    weight_decay=NotNegative,
    window_size=Count,
)
