"""Evaluate, draw and write the labels of a config's model on a config's data set."""

import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope

from mmseg.engine import SegRunner, device_of, init_processes, protocol_of
from mmseg.errors import UserError
from mmseg.evaluation import score_table
from mmseg.registry import DATASETS, SCOPE
from mmseg.utils import output_dir, write_json

from .command import settings_of
from .precheck import metrics_of, require_table, try_pipeline, types_of
from .record import bare, environment, frozen_digests, weights_digest

CORES_PER_DECODER = 4  # of a CPU that runs the network too
# A test needs one of mmengine's default hooks; the others log, or are for training.
DEFAULT_HOOKS = dict(
    timer=None,
    logger=None,
    param_scheduler=None,
    checkpoint=None,
    sampler_seed=None,
    runtime_info=dict(type='RuntimeInfoHook'),
)


def test(
    config: Config,
    checkpoint: str | Path | None = None,
    *,
    metrics: Sequence[str] = ('mIoU',),
    work_dir: str | Path | None = None,
    show_dir: str | Path | None = None,
    out_dir: str | Path | None = None,
    save_scores: bool = False,
    device: str | None = None,
    launcher: str = 'none',
    engine: str | None = None,
    precision: str | None = None,
) -> dict[str, float]:
    """Run the test set of a config through its model.

    Args:
        config: a Config of `mmseg.engine.load_config`.
        checkpoint: weights of the CLIP backbone, in any layout, in place of the config's;
            a student needs its checkpoint.
        metrics: ('mIoU',), or empty for data without masks.
        work_dir: folder of the log and of the result's JSON; default work_dirs/<config's name>.
        show_dir, out_dir: folders for pictures and for label PNGs; None for none.
        save_scores: also write the class scores beside the labels.
        device: 'cpu', an accelerator's name, or None for the best there is.
        launcher: 'none', 'pytorch' (torchrun) or 'slurm'.
        engine, precision: see `mmseg.models.engines.Engine`; None for the config's.

    Returns:
        {'aAcc', 'mIoU', ...} in fractions, {} without metrics.

    Raises:
        UserError: a setting or file that cannot be used.
    """
    config.work_dir = str(work_dir or config.get('work_dir') or default_work_dir(config))
    for folder in filter(None, (config.work_dir, show_dir, out_dir)):
        output_dir(folder)
    use_checkpoint(config, checkpoint)
    config.device = init_processes(launcher, device_of(device))
    config.launcher, config.default_hooks = launcher, DEFAULT_HOOKS
    if not metrics:
        config.test_evaluator = []
    hooks = _output_hooks(show_dir, out_dir, save_scores)
    config.custom_hooks = [*config.get('custom_hooks', []), *hooks]
    dataset = _checked_data(config, show_dir, out_dir)
    with settings_of(config):
        if metrics:
            require_table(metrics_of(config.get('test_evaluator'), dataset))
        runner = _build_runner(config, dict(engine=engine, precision=precision))
    started = time.monotonic()
    values = runner.test()
    if is_main_process():
        if metrics:
            _report(runner, config, values, time.monotonic() - started)
        for name, output in (('pictures', show_dir), ('labels', out_dir)):
            if output is not None:
                print(f'{name} of {len(dataset)} photos written to {output}')
    return values


def default_work_dir(config: Config) -> Path:
    """Return work_dirs/<config's name>."""
    return Path('work_dirs') / Path(config.filename).stem


def _checked_data(config: Config, *output_folders: str | Path | None) -> Any:
    """Build the test set, read one sample, and check that no output lands on inputs."""
    with settings_of(config):
        dataset = require_data(config.get('test_dataloader'))
    try_pipeline(dataset, 'test_dataloader', types_of(config.get('test_evaluator')))
    with settings_of(config):
        _spare_inputs(dataset, *output_folders)
    return dataset


def _build_runner(config: Config, engine: Mapping[str, str | None]) -> SegRunner:
    """Build the runner and its test loop, so that the loop's settings are checked too."""
    loader = config.test_dataloader
    if loader.sampler['type'] == 'DefaultSampler':
        loader.sampler.round_up = False  # or some photos would count twice
    loader.setdefault('pin_memory', config.device != 'cpu')
    if config.device == 'cpu' and loader.get('num_workers'):  # the network needs the cores
        few = max(1, (os.cpu_count() or 1) // CORES_PER_DECODER)
        loader.num_workers = min(loader.num_workers, few)
    chosen = {key: value for key, value in engine.items() if value is not None}
    if chosen:
        config.test_cfg = dict(config.test_cfg, type='SegTestLoop', **chosen)
    runner = SegRunner.from_cfg(config)
    runner.test_loop  # noqa: B018
    return runner


def use_checkpoint(config: Config, checkpoint: str | Path | None) -> None:
    """Name a checkpoint in a config: MaskCLIP's holds its backbone, a student's all of it.

    Raises:
        UserError: neither the config nor this names the checkpoint of a student.
    """
    is_student = config.model.type == 'MaskClipPlus'
    if checkpoint is None and is_student and not config.model.get('checkpoint'):
        raise UserError(
            f'{config.filename} is a student, which knows nothing before its training: name its '
            'checkpoint, which tools/train.py wrote, such as work_dirs/<config>/latest.pth'
        )
    if checkpoint is not None and is_student:
        config.model.update(teacher=None, checkpoint=str(checkpoint))
        config.model.backbone.pretrained = False
    elif checkpoint is not None:
        config.model.backbone.pretrained = str(checkpoint)


def require_data(loader: Mapping[str, Any] | None) -> Any:
    """Build the data set of a loader's config, so that missing data is found before any weights.

    Raises:
        UserError: no data set is named, or it cannot be built.
    """
    if not loader or 'dataset' not in loader:
        raise UserError('the config names no data set (test_dataloader.dataset)')
    with DefaultScope.overwrite_default_scope(SCOPE):
        return DATASETS.build(loader['dataset'])


def _spare_inputs(dataset: Any, *outputs: str | Path | None) -> None:
    """Refuse output folders that hold photos or masks, and one folder for two outputs."""
    folders = [Path(folder).resolve() for folder in outputs if folder is not None]
    if len(set(folders)) < len(folders):
        raise UserError(f'--show-dir and --out are both {folders[0]}; choose two folders')
    rows = [dataset.get_data_info(i) for i in range(len(dataset))]
    files = [row[key] for row in rows for key in ('img_path', 'seg_map_path') if row[key]]
    inputs = {Path(file).resolve().parent for file in files}
    for folder in folders:
        if folder in inputs:
            raise UserError(
                f'the output folder {folder} holds photos or masks of the data set, '
                'which could be overwritten; choose another one'
            )


def _output_hooks(
    show_dir: str | Path | None, out_dir: str | Path | None, save_scores: bool
) -> list[dict[str, Any]]:
    hooks: list[dict[str, Any]] = []
    if show_dir is not None:
        hooks.append(dict(type='SegVisualizationHook', out_dir=str(show_dir)))
    if out_dir is not None:
        hooks.append(dict(type='LabelWriterHook', out_dir=str(out_dir), save_scores=save_scores))
    return hooks


def _report(runner: SegRunner, config: Config, values: dict[str, float], seconds: float) -> None:
    """Print the table per class and the protocol; write the result's JSON."""
    evaluator: Evaluator = runner.test_loop.evaluator
    meta = evaluator.dataset_meta
    print(score_table(meta['classes'], evaluator.metrics[0].scores, meta.get('unseen', ())))
    stamp = datetime.now().strftime('%Y%m%d_%H%M%S')
    path = Path(config.work_dir) / f'eval_single_scale_{stamp}.json'
    photos = len(runner.test_dataloader.dataset)
    protocol = protocol_of(config)
    print(f'protocol {protocol}')
    report = dict(
        config=str(config.filename),
        protocol=protocol,
        settings=config.pretty_text,
        metric=values,
        photos=photos,
        seconds=round(seconds, 2),
        weights_sha256=weights_digest(bare(runner.model)),
        frozen_sha256=frozen_digests(bare(runner.model)),
        environment=environment(config.device),
    )
    write_json(path, report)
    print(f'{photos} photos in {seconds:.1f} s; written to {path}')
