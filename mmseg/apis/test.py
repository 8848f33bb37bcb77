"""Evaluate, draw and write the labels of a config's model on a config's data set."""

import argparse
import json
import time
from datetime import datetime
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope

from mmseg.engine import (
    PRECISIONS,
    SegRunner,
    device_of,
    end_processes,
    init_processes,
    load_config,
    protocol_of,
)
from mmseg.errors import UserError
from mmseg.evaluation import score_table
from mmseg.registry import DATASETS, SCOPE
from mmseg.utils import atomic_path, output_dir

from .command import add_config_arguments, settings_of
from .precheck import metrics_of, require_table, try_pipeline, types_of
from .record import environment, weights_digest

METRICS = ('mIoU',)
# Of mmengine's default hooks a test needs one; the others log to the console or concern training.
DEFAULT_HOOKS = dict(
    timer=None,
    logger=None,
    param_scheduler=None,
    checkpoint=None,
    sampler_seed=None,
    runtime_info=dict(type='RuntimeInfoHook'),
)


def test(
    config,
    checkpoint=None,
    *,
    metrics=('mIoU',),
    work_dir=None,
    show_dir=None,
    out_dir=None,
    save_scores=False,
    device=None,
    launcher='none',
    precision=None,
):
    """Run the test set of a config through its model.

    Args:
        config: a Config of `mmseg.engine.load_config`.
        checkpoint: weights of the CLIP backbone, in any layout, in place of the config's; a
            student's own, which it must have.
        metrics: of METRICS; empty for data without masks.
        work_dir: folder of the log and of the result's JSON; default work_dirs/<config's name>.
        show_dir, out_dir: folders for pictures and for label PNGs; None for none.
        save_scores: also write the class scores beside the labels.
        device: 'cpu', an accelerator's name, or None for the best there is.
        launcher: 'none', 'pytorch' (torchrun) or 'slurm'.
        precision: of `mmseg.engine.PRECISIONS`; None for the config's.

    Returns:
        {'aAcc', 'mIoU', ...} in fractions, {} without metrics.

    Raises:
        UserError: whatever the user can mend, named.
    """
    name = Path(config.filename).stem
    config.work_dir = str(work_dir or config.get('work_dir') or Path('work_dirs') / name)
    folders = [output_dir(d) for d in (config.work_dir, show_dir, out_dir) if d is not None]
    if checkpoint is not None:
        use_checkpoint(config, checkpoint)
    elif config.model.type == 'MaskClipPlus' and not config.model.get('checkpoint'):
        raise UserError(
            f'{config.filename} is a student, which knows nothing before its training: name the '
            'CHECKPOINT that tools/train.py wrote, such as work_dirs/<config>/latest.pth'
        )
    config.device = init_processes(launcher, device_of(device))
    config.launcher, config.default_hooks = launcher, DEFAULT_HOOKS
    if not metrics:
        config.test_evaluator = []
    config.custom_hooks = [
        *config.get('custom_hooks', []),
        *_output_hooks(show_dir, out_dir, save_scores),
    ]
    with settings_of(config):
        dataset = require_data(config.get('test_dataloader'))
    try_pipeline(dataset, 'test_dataloader', types_of(config.get('test_evaluator')))
    with settings_of(config):
        _spare_inputs(dataset, show_dir, out_dir)
        if metrics:
            require_table(metrics_of(config.get('test_evaluator'), dataset))
        runner = _runner_of(config, precision)
    started = time.monotonic()
    values = runner.test()
    if is_main_process():
        if metrics:
            _report(runner, config, values, folders[0], time.monotonic() - started)
        for what, folder in (('pictures', show_dir), ('labels', out_dir)):
            if folder is not None:
                print(f'{what} of {len(dataset)} photos written to {folder}')
    return values


def _runner_of(config, precision):
    """-> a SegRunner whose test loop is built, so that its settings are checked too"""
    loader = config.test_dataloader
    if loader.sampler['type'] == 'DefaultSampler':
        loader.sampler.round_up = False  # or some photos would count twice
    loader.setdefault('pin_memory', config.device != 'cpu')
    if precision is not None:
        config.test_cfg = dict(config.test_cfg, type='SegTestLoop', precision=precision)
    runner = SegRunner.from_cfg(config)
    runner.test_loop  # noqa: B018
    return runner


def use_checkpoint(config, checkpoint):
    """MaskCLIP's weights are its backbone's; a student's are its own, its text among them."""
    if config.model.type == 'MaskClipPlus':
        config.model.update(teacher=None, checkpoint=str(checkpoint))
        config.model.backbone.pretrained = False
    else:
        config.model.backbone.pretrained = str(checkpoint)


def require_data(loader):
    """Build the data set of a loader's config, so that missing data is found before any weights."""
    if not loader or 'dataset' not in loader:
        raise UserError('the config names no data set (test_dataloader.dataset)')
    with DefaultScope.overwrite_default_scope(SCOPE):
        return DATASETS.build(loader.dataset)


def _spare_inputs(dataset, *folders):
    """Refuse output folders in which photos or masks lie, or one folder for two outputs."""
    folders = [Path(folder).resolve() for folder in folders if folder is not None]
    if len(set(folders)) < len(folders):
        raise UserError(f'--show-dir and --out are both {folders[0]}; give each its own folder')
    rows = [dataset.get_data_info(i) for i in range(len(dataset))]
    inputs = {
        Path(row[k]).resolve().parent
        for row in rows
        for k in ('img_path', 'seg_map_path')
        if row[k]
    }
    for folder in folders:
        if folder in inputs:
            raise UserError(
                f'the output folder {folder} holds photos or masks of the data set, '
                'which could be overwritten; choose another one'
            )


def _output_hooks(show_dir, out_dir, save_scores):
    hooks = []
    if show_dir is not None:
        hooks.append(dict(type='SegVisualizationHook', out_dir=str(show_dir)))
    if out_dir is not None:
        hooks.append(dict(type='LabelWriterHook', out_dir=str(out_dir), save_scores=save_scores))
    return hooks


def _report(runner, config, values, work_dir, seconds):
    evaluator: Evaluator = runner.test_loop.evaluator
    meta = evaluator.dataset_meta
    print(score_table(meta['classes'], evaluator.metrics[0].scores, meta.get('unseen', ())))
    stamp = datetime.now().strftime('%Y%m%d_%H%M%S')
    path = work_dir / f'eval_single_scale_{stamp}.json'
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
        weights_sha256=weights_digest(runner.model),
        environment=environment(config.device),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1))
    print(f'{photos} photos in {seconds:.1f} s; written to {path}')


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description='Evaluate, draw or write labels of a test set.')
    add_config_arguments(parser)
    parser.add_argument('checkpoint', nargs='?', help="weights in place of the config's")
    parser.add_argument(
        '--eval',
        nargs='+',
        choices=METRICS,
        metavar='METRIC',
        help='mIoU: the table per class; the default unless --show-dir or --out',
    )
    parser.add_argument('--show-dir', help='draw photo | truth | prediction there')
    parser.add_argument('--out', help='write label PNGs there')
    parser.add_argument('--save-scores', action='store_true', help='with --out: class scores too')
    parser.add_argument('--work-dir', help='where the log and the result go')
    parser.add_argument('--device', help='cpu, or an accelerator; default the best there is')
    parser.add_argument(
        '--precision', choices=PRECISIONS, help="of the network; default the config's, fp32"
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None):
    """The command line `tools/test.py`."""
    args = parse_arguments(argv)
    if args.save_scores and not args.out:
        raise UserError('--save-scores needs --out DIR, where the scores go beside the labels')
    default = () if args.show_dir or args.out else ('mIoU',)
    config = load_config(args.config, args.cfg_options)
    test(
        config,
        args.checkpoint,
        metrics=args.eval or default,
        work_dir=args.work_dir,
        show_dir=args.show_dir,
        out_dir=args.out,
        save_scores=args.save_scores,
        device=args.device,
        launcher=args.launcher,
        precision=args.precision,
    )
    end_processes()
