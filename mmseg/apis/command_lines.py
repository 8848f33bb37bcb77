"""The command lines `segment`, `test` and `train`, of `maskclip` and of the scripts in tools/."""

import argparse
from collections.abc import Sequence
from typing import Any

from mmseg.errors import UserError

from .command import (
    add_config_arguments,
    add_config_options,
    add_device,
    add_engine,
    add_format,
    add_launcher,
)

METRICS = ('mIoU',)
# Options of `maskclip test` that need --photos, and those that need the test set of a config.
OWN = ('masks', 'classes', 'model')
OF_TEST_SETS = ('show_dir', 'out', 'save_scores', 'work_dir', 'launcher')
SHORT_TEMPLATES = dict(plain='plain', imagenet='imagenet80')


def parse_segment(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of `maskclip segment` and `demo/image_demo.py`."""
    parser = argparse.ArgumentParser(
        prog='segment', description='Segment photos into classes named in words.'
    )
    parser.add_argument('source', help='a photo, a folder of photos, or a video')
    parser.add_argument(
        '--classes',
        help="'dog, grass, person|people': | names synonyms; 'auto': words that CLIP sees in the "
        "photos, see `maskclip words`; default the config's",
    )
    parser.add_argument('--background', default='', help="'wall|floor': together one class more")
    parser.add_argument('--out', default='segmented', help='where the files go')
    parser.add_argument(
        '--model',
        '--config',
        dest='model',
        help="a config, a student's file, an exported file, or user/name on the hub; default "
        "OpenAI's ViT-B/16, or the miniature without it",
    )
    parser.add_argument('--checkpoint', help="a student's, or other weights of the CLIP")
    parser.add_argument('--templates', help='prompt templates: plain, imagenet, maskclip85, ...')
    parser.add_argument('--tau', type=float, help='temperature of a class weight')
    parser.add_argument(
        '--threshold', type=float, default=0.0, help='less probable pixels are none of the classes'
    )
    parser.add_argument('--window', type=int, help='slide windows of that many pixels')
    parser.add_argument('--stride', type=int, help='pixels between them; default a third')
    parser.add_argument('--save-scores', action='store_true', help='class scores too (npz)')
    add_format(parser)
    add_device(parser)
    add_engine(parser)
    add_config_options(parser)
    return parser.parse_args(argv)


def run_segment(argv: Sequence[str] | None = None) -> None:
    """Run `maskclip segment`."""
    options = vars(parse_segment(argv))
    from .segment_files import segment_source

    options.update(config=options.pop('model'), file_format=options.pop('format'))
    options['background'] = [name for name in options['background'].split('|') if name.strip()]
    options['templates'] = SHORT_TEMPLATES.get(options['templates'], options['templates'])
    segment_source(**options)


def run_words(argv: Sequence[str] | None = None) -> None:
    """Run `maskclip words`."""
    parser = argparse.ArgumentParser(
        prog='words', description='Propose words for photos, with their shares of the photos.'
    )
    parser.add_argument('source', help='a photo, or a folder of photos')
    parser.add_argument(
        '--from',
        dest='candidates',
        metavar='LIST',
        help='a vocabulary (ade20k, coco_stuff_171, ...) or a text file, one name a line; default '
        "pascal_context_459, or the config's classes if its CLIP cannot read that",
    )
    parser.add_argument('--top', type=int, metavar='N', help='at most N words')
    parser.add_argument(
        '--model',
        '--config',
        dest='model',
        help="a MaskCLIP's config; default OpenAI's ViT-B/16, or the miniature without it",
    )
    add_device(parser)
    add_config_options(parser)
    args = parser.parse_args(argv)
    from mmseg.datasets.reading import list_photos

    from .inference import init_model
    from .propose import print_proposal, propose_words
    from .segment_files import default_config

    photos = list_photos(args.source)
    model = init_model(args.model or default_config(), None, args.device, args.cfg_options)
    print_proposal(propose_words(model, photos, args.candidates, top=args.top))


def parse_test(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of `maskclip test` and `tools/test.py`."""
    parser = argparse.ArgumentParser(description='Evaluate, draw or write labels of a test set.')
    parser.add_argument('config', nargs='?', help='a Python config file below configs/')
    parser.add_argument('checkpoint', nargs='?', help="weights in place of the config's")
    add_config_options(parser)
    own = parser.add_argument_group('your own photos and masks, without a test set')
    own.add_argument('--photos', metavar='DIR', help='a folder of photos')
    own.add_argument(
        '--masks',
        metavar='DIR_OR_FILE',
        help='a folder of label PNGs, of labelme JSONs, or of CVAT; a COCO JSON; a YOLO data.yaml',
    )
    own.add_argument('--classes', help="'dog, grass, person|people'; default the model's")
    own.add_argument(
        '--model', metavar='CONFIG', help="default OpenAI's ViT-B/16, or the miniature without it"
    )
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
    add_device(parser)
    add_engine(parser)
    add_launcher(parser)
    args = parser.parse_args(argv)
    if args.save_scores and not args.out:
        raise UserError('--save-scores needs --out DIR, where the scores go beside the labels')
    if args.photos is None:
        _require_no(args, OWN, 'needs --photos DIR')
        if args.config is None:
            raise UserError('name a config, or --photos DIR and --masks DIR_OR_FILE')
    else:
        _require_no(args, OF_TEST_SETS, 'is for the test set of a config, not for --photos')
        if args.masks is None:
            raise UserError('--photos needs --masks DIR_OR_FILE to evaluate against')
        if args.model and args.config:
            raise UserError(f'two models: {args.config} and --model {args.model}; name one')
    return args


def _require_no(args: argparse.Namespace, names: Sequence[str], problem: str) -> None:
    for name in names:
        if getattr(args, name) not in (None, False, 'none'):
            raise UserError(f'--{name.replace("_", "-")} {problem}')


def run_test(argv: Sequence[str] | None = None) -> None:
    """Run `tools/test.py`."""
    args = parse_test(argv)
    shared = ('checkpoint', 'device', 'engine', 'precision')
    run: dict[str, Any] = {name: getattr(args, name) for name in shared}
    if args.photos is not None:
        from .evaluate import evaluate

        run |= dict(config=args.model or args.config, cfg_options=args.cfg_options)
        evaluate(args.photos, args.masks, args.classes, **run)
        return
    from mmseg.engine import end_processes, load_config

    from .test import test

    default = () if args.show_dir or args.out else ('mIoU',)
    test(
        load_config(args.config, args.cfg_options),
        metrics=args.eval or default,
        work_dir=args.work_dir,
        show_dir=args.show_dir,
        out_dir=args.out,
        save_scores=args.save_scores,
        launcher=args.launcher,
        **run,
    )
    end_processes()


def run_train(argv: Sequence[str] | None = None) -> None:
    """Run `maskclip train` and `tools/train.py`."""
    parser = argparse.ArgumentParser(description='Train a student without annotations, or a CLIP.')
    add_config_arguments(parser)
    parser.add_argument('--work-dir', help='where log and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from the newest checkpoint, or from this one',
    )
    parser.add_argument(
        '--load-from', metavar='CHECKPOINT', help='start a new run from its weights'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--accumulate', type=int, metavar='N', help='read each batch in N parts')
    parser.add_argument('--seed', type=int)
    parser.add_argument('--deterministic', action='store_true')
    parser.add_argument('--no-validate', action='store_true')
    parser.add_argument('--skip-bad', action='store_true', help='leave out photos that are damaged')
    add_device(parser)
    add_launcher(parser)
    options = vars(parser.parse_args(argv))
    from mmseg.engine import end_processes, load_config

    from .train import train

    del options['local_rank']  # old launchers pass it, the environment has it
    path = options.pop('config')
    config = load_config(path, options.pop('cfg_options'))
    if 'train_dataloader' not in config:
        raise UserError(
            f'{path} has nothing to train (no train_dataloader); the configs of students are below '
            'configs/maskclip_plus/'
        )
    config.train_dataloader.dataset.skip_bad = options.pop('skip_bad')
    train(config, validate=not options.pop('no_validate'), **options)
    end_processes()
