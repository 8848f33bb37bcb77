"""A web page: drop a photo, type classes, read the class and its probability under the pointer.

python demo/app.py [--model MODEL] [--student MODEL] [--port 7860]

It listens on this machine only, unless --host names another address. It answers requests to its
host name (with --host 0.0.0.0: any address and this machine's name). It stores only uploads, in a
temporary folder that is deleted at the end.
"""

import argparse
import json
import os
import random
import re
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mmseg.apis.command import add_config_options, add_device, add_engine, run_command
from mmseg.apis.guard import Guard
from mmseg.errors import UserError, require_packages
from mmseg.utils.images import data_url
from mmseg.vocabularies import distinct_palette

if TYPE_CHECKING:
    from gradio import Blocks

    from mmseg.apis import Segmentation, Segmenter

HERE = Path(__file__).resolve().parent
SHOWN = 1600  # pixels of the longer side in the browser
WAITING = 20  # visitors in the queue
MODELS = ['MaskCLIP', '+ class weight', 'student']
LOOPBACK = ('127.0.0.1', 'localhost', '::1')
ANY_ADDRESS = ('0.0.0.0', '::', '')


def compare(
    base: 'Segmenter | None',
    student: 'Segmenter | None',
    photo: Image.Image,
    classes: str,
    background: str,
    models: Sequence[str],
    tau: float,
    threshold: float,
) -> dict[str, Any]:
    """Segment a photo by each model that is asked for; return what `viewer.js` shows.

    Args:
        base, student: a MaskCLIP and a student; None for one that is not asked for.
        classes, background: names separated by commas; 'a | b' for synonyms.
        models: of MODELS.
        tau: temperature of the class weight.
        threshold: probability in 0..1 below which a pixel is none of the classes.
    """
    from mmseg.apis import segment

    if not models:
        raise UserError(f'choose at least one of {", ".join(MODELS)}')
    words = dict(classes=classes, background=background, threshold=threshold)
    asked = {
        'MaskCLIP': lambda: segment(base, photo, **words),
        '+ class weight': lambda: segment(base, photo, tau=tau, **words),
        'student': lambda: segment(student, photo, threshold=threshold),
    }
    results = in_shared_colours({name: asked[name]() for name in MODELS if name in models})
    panels = [panel_of(name, result) for name, result in results.items()]
    size = shown_size(photo.size)
    picture = data_url(photo.resize(size, Image.Resampling.LANCZOS), 'jpeg', quality=90)
    return dict(photo=picture, width=size[0], height=size[1], panels=panels)


def in_shared_colours(results: 'Mapping[str, Segmentation]') -> 'dict[str, Segmentation]':
    """Give each class name one colour in all results; the last result keeps its colours."""
    *others, last = results.values()
    size = sum(len(result.names) for result in results.values())
    spare = iter(distinct_palette(size, last.palette))
    colours: dict[str, Any] = dict(zip(last.names, last.palette, strict=True))
    for result in reversed(others):
        for name, colour in zip(result.names, result.palette, strict=True):
            if name not in colours:
                colours[name] = colour if name == 'background' else next(spare)
    return {
        title: replace(result, palette=tuple(colours[name] for name in result.names))
        for title, result in results.items()
    }


def panel_of(title: str, result: 'Segmentation') -> dict[str, Any]:
    """Describe a result as one panel of the page, the largest class first.

    `map` is a picture whose red and green are a pixel's class (low and high byte, 65535 for none)
    and whose blue is its probability.
    """
    size = shown_size(result.labels.shape[::-1])
    labels = np.where(result.labels < len(result.names), result.labels.astype(np.int32), 65535)
    labels = Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    sure = Image.fromarray(result.probability.astype(np.float32)).resize(size)
    codes, sure = np.asarray(labels), np.asarray(sure).clip(0, 1)
    layers = [codes & 255, codes >> 8, (255 * sure).round()]
    coded = Image.fromarray(np.stack(layers, axis=2).astype(np.uint8))
    return dict(
        title=title,
        names=list(result.names),
        palette=[list(map(int, colour)) for colour in result.palette],
        summary=result.summary(),
        map=data_url(coded, 'png'),
        labels=data_url(result.label_image(), 'png'),
    )


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Scale (W, H) so that the longer side is at most SHOWN."""
    scale = min(1.0, SHOWN / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def example_scene() -> np.ndarray:
    """Draw a random scene of the miniature's world, (H, W, 3) uint8."""
    from mmseg.datasets.miniature import MiniatureDataset

    dataset = MiniatureDataset(scenes=50, world=1)
    row = dataset.get_data_info(random.randrange(len(dataset)))
    scene = dataset.draw(row['img_path']).image
    return scene.repeat(4, axis=0).repeat(4, axis=1)


def answer(
    base: 'Segmenter | None',
    student: 'Segmenter | None',
    max_pixels: int,
    path: str | None,
    *settings: Any,
) -> dict[str, Any] | None:
    """Return what `viewer.js` shows: None without a photo, `compare`, or the `problem` in words."""
    from mmseg.datasets.reading import read_photo

    cure = ' Choose another photo.'
    try:
        if not path:
            return None
        photo, cure = read_photo(path, max_pixels=max_pixels), ''
        return compare(base, student, photo, *settings)
    except UserError as error:
        text = str(error).replace(str(path), Path(path).name)
        text = re.sub(r'(?<!\S)/\S*/', '', text)  # folders of this machine
        return dict(problem=f'Not segmented: {text}{"" if text.endswith("?") else "."}{cure}')


def build_page(
    base: 'Segmenter | None', student: 'Segmenter | None', max_pixels: int, *, miniature: bool
) -> 'Blocks':
    """Build the page; it takes photos of at most `max_pixels` pixels.

    Args:
        base, student: a MaskCLIP and a student; one of them may be None.
    """
    import gradio as gr

    from mmseg.datasets.miniature import LABELS

    models = MODELS[: 2 * bool(base)] + MODELS[2:] * bool(student)
    words = ', '.join(LABELS if miniature else ('person', 'dog', 'grass', 'sky', 'building'))
    of_base = dict(visible=base is not None)  # a student has its own classes
    options = dict(title='MaskCLIP', analytics_enabled=False, fill_width=True)
    with gr.Blocks(**options, delete_cache=(600, 3600)) as page:
        gr.Markdown(_about(base, student, miniature))
        with gr.Row():
            with gr.Column(scale=1, min_width=260, elem_id='controls'):
                sources = ['upload', 'clipboard']
                photo = gr.Image(label='Photo', type='filepath', height=180, sources=sources)
                photo.preprocess = lambda upload: upload and upload.path  # `answer` opens the file
                draw = gr.Button('Draw a scene of its world', size='sm', visible=miniature)
                info = 'separated by commas; a | b are synonyms'
                classes = gr.Textbox(words, label='Classes', info=info, lines=2, **of_base)
                go = gr.Button('Segment', variant='primary')
                with gr.Column(elem_id='settings'):
                    info = 'words of one class more'
                    background = gr.Textbox('', label='Background', info=info, **of_base)
                    asked = gr.CheckboxGroup(models, value=models, label='Side by side', **of_base)
                    info = 'less: a stronger weight'
                    tau = gr.Slider(0.05, 2, 1, step=0.05, label='Tau', info=info, **of_base)
                    info = 'below it: no class'
                    threshold = gr.Slider(0, 1, 0, step=0.01, label='Threshold', info=info)
            with gr.Column(scale=3, elem_id='pictures'):
                view = gr.HTML(
                    html_template='<div class="viewer">The label maps appear here.</div>',
                    js_on_load=(HERE / 'viewer.js').read_text(),
                )
        events = [go.click, photo.change, classes.submit, background.submit, asked.input]
        gr.on(
            [*events, tau.change, threshold.change],
            lambda *inputs: json.dumps(answer(base, student, max_pixels, *inputs)),
            inputs=[photo, classes, background, asked, tau, threshold],
            outputs=view,
            trigger_mode='always_last',
            api_visibility='private',
            concurrency_limit=1,
        )
        draw.click(example_scene, outputs=photo, api_visibility='private')
    return page.queue(max_size=WAITING)


def _about(base: 'Segmenter | None', student: 'Segmenter | None', miniature: bool) -> str:
    if student and not base:
        return f'## Any photo\nA student labels it with its {len(student.vocabulary)} classes.'
    lines = ['Labels by MaskCLIP: dense features of CLIP, no annotation.']
    if miniature:
        lines = [
            'This **miniature** knows only the words of its rendered world. '
            'For photos, fetch CLIP: `maskclip download_weights --models ViT-B-16 --students`'
        ]
    if student:
        lines.insert(0, f'The student knows its {len(student.vocabulary)} classes.')
    return f'## Any photo, any words\n{" ".join(lines)}'


def serve(args: argparse.Namespace) -> None:
    """Serve the page until it is stopped."""
    require_packages('the web page', 'gradio', extra='demo')
    _check_address(args.host, args.port)
    base, student = load_models(args)
    miniature = base is not None and base.config.model.backbone.get('pretrained') == 'miniature'
    page = build_page(base, student, args.max_megapixels * 10**6, miniature=miniature)
    if args.host not in LOOPBACK:
        print(f'note: anyone who reaches {args.host} can use this page', file=sys.stderr)
    print(f'open http://{args.host}:{args.port} (Ctrl-C ends it)', flush=True)
    import uvicorn

    options = dict(host=args.host, port=args.port, log_level='warning', timeout_graceful_shutdown=1)
    uvicorn.Server(uvicorn.Config(application(page, args), **options)).run()


def load_models(args: argparse.Namespace) -> 'tuple[Segmenter | None, Segmenter | None]':
    """Load the MaskCLIP and the student of the command line; one of them may be None."""
    from mmseg.apis import init_model
    from mmseg.apis.find_model import find_model
    from mmseg.apis.segment_files import default_config

    if args.student and find_model(args.student).kind == 'config' and not args.student_checkpoint:
        raise UserError('--student needs its --student-checkpoint')
    name = args.model or default_config()
    run = dict(engine=args.engine, precision=args.precision, photos=args.photos or ())
    model = init_model(name, args.checkpoint, args.device, args.cfg_options, **run)
    if model.is_student and args.student:
        raise UserError(f'{name} is a student too; name a MaskCLIP beside --student')
    if model.is_student:
        return None, model
    if model.config.model.get('class_weight'):
        raise UserError(f'{name}: name a MaskCLIP without a class weight; the page adds it')
    if not args.student:
        return model, None
    student = init_model(args.student, args.student_checkpoint, args.device, **run)
    if not student.is_student:
        raise UserError(f'--student {args.student} is no student')
    return model, student


def application(page: 'Blocks', args: argparse.Namespace) -> Guard:
    """Mount the page in the ASGI application that is served."""
    import gradio as gr
    from fastapi import FastAPI

    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path='/',
        server_name=args.host,
        server_port=args.port,
        max_file_size=f'{args.max_megabytes}mb',
        css=(HERE / 'viewer.css').read_text(),
        theme=gr.themes.Default(font='system-ui', font_mono='monospace'),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=True,
    )
    everywhere = args.host in ANY_ADDRESS
    names = [*LOOPBACK, socket.gethostname() if everywhere else args.host]
    largest = (args.max_megabytes + 1) * 2**20  # gradio reports the largest size of a file
    return Guard(app, names, any_address=everywhere, max_bytes=largest)


def _check_address(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        raise UserError(f'cannot listen on {host}, port {port}: {error}') from error


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='A web page that segments photos into words.')
    parser.add_argument(
        *('--model', '--config'),
        dest='model',
        help="as of `maskclip segment`; default OpenAI's ViT-B/16, or the miniature without it",
    )
    parser.add_argument('--checkpoint', help="other weights of the CLIP, or a student's")
    parser.add_argument('--student', help='a student, shown beside')
    parser.add_argument('--student-checkpoint', help='its checkpoint, if --student is a config')
    parser.add_argument('--host', default='127.0.0.1', help='default this machine only')
    parser.add_argument('--port', type=int, default=7860)
    parser.add_argument('--max-megabytes', type=int, default=20, help='of an upload')
    parser.add_argument('--max-megapixels', type=int, default=50, help='of a photo')
    add_device(parser)
    add_engine(parser)
    parser.add_argument(
        '--photos', metavar='DIR', help='to calibrate int8 on, and to compare labels on'
    )
    add_config_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'  # it contacts no server
    with tempfile.TemporaryDirectory(prefix='maskclip_page_') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder
        serve(args)


if __name__ == '__main__':
    run_command(main)
