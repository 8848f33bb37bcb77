"""The command line of `demo/image_demo.py` and `maskclip segment`."""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from huggingface_hub import try_to_load_from_cache

from mmseg.clip import fetched_names
from mmseg.datasets.reading import list_photos
from mmseg.errors import UserError
from mmseg.utils import Progress, atomic_path, in_checkout, output_dir, unique_names
from mmseg.vocabularies import TEMPLATES

from .command import ConfigOptions
from .inference import CONFIGS, init_model, segment, words_of

VIDEOS = {'.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v'}
MOV_ATOMS = (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip')  # a .mp4 or .mov starts so
DEFAULT = 'maskclip/maskclip_vit16_clip_numerics_520x520_pascal_context_59.py'
MINIATURE = 'miniature/maskclip_rn.py'
HUB_FILES = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
SHORT = dict(plain='plain', imagenet='imagenet80')


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog='segment', description='Segment photos into classes named in words.'
    )
    parser.add_argument('source', help='a photo, a folder of photos, or a video')
    parser.add_argument(
        '--classes', help="'dog, grass, person|people': | names synonyms; default the config's"
    )
    parser.add_argument('--background', default='', help="'wall|floor': together one class more")
    parser.add_argument('--out', default='segmented', help='where the files go')
    parser.add_argument('--config', help="default OpenAI's ViT-B/16, or the miniature without it")
    parser.add_argument('--checkpoint', help="a student's, or other weights of the CLIP")
    parser.add_argument(
        '--templates', choices=[*SHORT, *(set(TEMPLATES) - set(SHORT))], help='of the prompts'
    )
    parser.add_argument('--tau', type=float, help='temperature of a class weight')
    parser.add_argument(
        '--threshold', type=float, default=0.0, help='less probable pixels are none of the classes'
    )
    parser.add_argument('--window', type=int, help='slide windows of that many pixels')
    parser.add_argument('--stride', type=int, help='pixels between them; default a third')
    parser.add_argument('--save-scores', action='store_true', help='class scores too (npz)')
    parser.add_argument('--device', help='cpu, or an accelerator; default the best there is')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    source, out = Path(args.source), Path(args.out)
    video = source.suffix.lower() in VIDEOS
    if video:
        require_video(source, out)
    photos = [] if video else list_photos(source)
    if out.resolve() in {path.resolve().parent for path in photos or [source]}:
        raise UserError(f'--out {out} is where the photos are, which could be overwritten')
    config = args.config or default_config()
    model = init_model(config, args.checkpoint, args.device, args.cfg_options)
    options = dict(
        classes=args.classes,
        background=[name for name in args.background.split('|') if name.strip()],
        templates=SHORT.get(args.templates, args.templates),
        tau=args.tau,
    )
    model.network(words_of(model, **options))
    options |= dict(threshold=args.threshold, window=args.window, stride=args.stride)
    segment(model, [], **options)  # words and settings are checked before any photo is read
    output_dir(out)
    if video:
        segment_video(model, source, out, options)
        return
    segment_photos(model, photos, out, options, args.save_scores)


def default_config():
    """OpenAI's ViT-B/16 where its weights are at hand; else the miniature, and it says so."""
    there = any(
        Path(in_checkout(f'pretrain/{name}')).is_file()
        for name in fetched_names('ViT-B-16', 'openai')
    )
    repo = 'timm/vit_base_patch16_clip_224.openai'
    cached = any(isinstance(try_to_load_from_cache(repo, name), str) for name in HUB_FILES)
    if there or cached:
        return CONFIGS / DEFAULT
    print(
        'no CLIP is fetched yet (bash download_weights.sh --models ViT-B-16 --students): this is '
        'the miniature, which knows fourteen words of its own small world',
        file=sys.stderr,
    )
    return CONFIGS / MINIATURE


def segment_photos(model, photos, out, options, save_scores):
    """Write overlay and labels of each photo, and results.json; a bad photo is named and skipped.

    Raises:
        UserError: at the end, if any could not be read or written.
    """
    names, results, bad = unique_names(photos), {}, []
    try:
        with Progress(len(photos), 'segment', unit='photo') as progress:
            for path in photos:
                try:
                    found = segment(model, path, **options)
                    save(found, f'{out / names[str(path)]}', save_scores)
                    results[str(path)] = found.summary()
                except UserError as error:
                    bad.append(str(error))
                    print(f'skipped: {error}', file=sys.stderr)
                progress.update()
    finally:  # also of a run that is stopped
        write_json(out / 'results.json', results)
    print(f'{len(results)} of {len(photos)} photos segmented; written to {out}')
    if bad:
        raise UserError(f'{len(bad)} of {len(photos)} photos could not be segmented; see above')


def save(found, start, save_scores):
    """A Segmentation -> files whose paths start so"""
    found.save(f'{start}_overlay.png')
    found.save_labels(f'{start}_labels.png')
    if save_scores:
        found.save_scores(f'{start}_scores.npz')


def require_video(path, out):
    """
    Raises:
        UserError: no such file, no container of VIDEOS (ffmpeg also reads lists of other files), or
            a name that OpenCV cannot pass on.
    """
    if not path.is_file():
        raise UserError(f'no such video: {path}')
    with path.open('rb') as file:
        head = file.read(8)
    if head[:4] not in (b'RIFF', b'\x1aE\xdf\xa3') and head[4:] not in MOV_ATOMS:
        raise UserError(f'{path} is no video that can be read, or has no frame')
    try:
        f'{path}{out}'.encode()
    except UnicodeEncodeError as error:
        raise UserError(f'the name of {path} or of {out} is no UTF-8; rename it') from error


def segment_video(model, source, out, options):
    """Write the overlay as a video, and results.json with one entry a frame.

    Raises:
        UserError: the video cannot be read, has no frame, or cannot be written.
    """
    target, results = out / f'{source.stem}_overlay.mp4', {}
    reader = cv2.VideoCapture(str(source))
    with atomic_path(target) as partial:
        frames = max(int(reader.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        rate, writer = reader.get(cv2.CAP_PROP_FPS) or 25.0, None
        with Progress(frames, 'segment', unit='frame') as progress:
            while True:
                there, frame = reader.read()
                if not there:
                    break
                found = segment(model, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), **options)
                picture = np.ascontiguousarray(even(found.tinted())[..., ::-1])
                if writer is None:
                    code = cv2.VideoWriter_fourcc(*'mp4v')
                    writer = cv2.VideoWriter(str(partial), code, rate, picture.shape[1::-1])
                writer.write(picture)
                results[str(len(results))] = found.summary()
                progress.update()
        if not results:
            raise UserError(f'{source} is no video that can be read, or has no frame')
        writer.release()
    write_json(out / 'results.json', results)
    print(f'{len(results)} frames segmented; written to {target}')


def even(picture):
    """(H, W, 3) -> without the last row or column where their number is odd, as codecs want"""
    height, width = picture.shape[:2]
    return picture[: height - height % 2 or 1, : width - width % 2 or 1]


def write_json(path, values):
    with atomic_path(path) as temporary:
        text = json.dumps(values, indent=1, ensure_ascii=False) + '\n'
        # What is no UTF-8 in a file's name becomes JSON's own escape.
        temporary.write_text(text, encoding='utf-8', errors='backslashreplace')
