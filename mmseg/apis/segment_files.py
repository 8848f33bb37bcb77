"""Segment photos and videos into files."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from huggingface_hub import try_to_load_from_cache

from mmseg.clip import fetched_names
from mmseg.datasets.reading import list_photos
from mmseg.engine import CONFIGS
from mmseg.errors import UserError
from mmseg.models.engines import EngineName, Precision
from mmseg.preparation.sources import HUB_NAMES
from mmseg.preparation.write_formats import check_format, write_labels
from mmseg.utils import Progress, atomic_path, in_checkout, output_dir, unique_names, write_json

from .inference import Segmenter, init_model, segment
from .propose import print_proposal, propose_words
from .words import words_of

VIDEOS = {'.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v'}
MOV_ATOMS = (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip')  # a .mp4 or .mov starts so
DEFAULT = 'maskclip/maskclip_vit16_clip_numerics_520x520_pascal_context_59.py'
MINIATURE = 'miniature/maskclip_rn.py'
LABELS = '_labels.png'
AUTO = 'auto'  # the classes that `propose_words` finds


def segment_source(
    source: str | Path,
    out: str | Path,
    *,
    config: str | Path | None = None,
    checkpoint: str | None = None,
    device: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    engine: EngineName | None = None,
    precision: Precision | None = None,
    save_scores: bool = False,
    file_format: str = 'png',
    **options: Any,
) -> None:
    """Segment a photo, a folder of photos or a video, and write the results into a folder.

    Args:
        source: the photo, folder or video.
        out: the folder of the results.
        config: see `init_model`; None for `default_config()`.
        checkpoint: weights in place of the config's.
        device: see `init_model`.
        cfg_options: keys of the config to override.
        engine, precision: see `init_model`.
        save_scores: also write class scores.
        file_format: also write the labels of photos in this format, see `write_labels`.
        options: see `segment`; the classes 'auto' are those of `propose_words`.

    Raises:
        UserError: words, settings or files that cannot be used.
    """
    source, out = Path(source), Path(out)
    video = source.suffix.lower() in VIDEOS
    if video:
        _require_video(source, out)
    photos = [] if video else list_photos(source)
    if out.resolve() in {path.resolve().parent for path in photos or [source]}:
        raise UserError(f'--out {out} is where the photos are, which could be overwritten')
    if video and file_format != 'png':
        raise UserError(f'{source} is a video; --format {file_format} is for photos')
    if video and options.get('classes') == AUTO:
        raise UserError(f'--classes {AUTO} proposes words for photos; name the classes of a video')
    run: dict[str, Any] = dict(engine=engine, precision=precision)
    run['photos'] = some_frames(source) if video and precision else photos
    model = init_model(config or default_config(), checkpoint, device, cfg_options, **run)
    if options.get('classes') == AUTO:
        options['classes'] = print_proposal(propose_words(model, photos))
    segment(model, [], **options)  # check words and settings before any photo is read
    write = None
    if file_format != 'png':
        words = words_of(model, options.get('classes'), options.get('background', ()))
        root = source if source.is_dir() else source.parent
        target: dict[str, Any] = dict(out=out / file_format, root=root)
        target |= dict(vocabulary=words.label_vocabulary())
        check_format(file_format, photos, **target)
        write = partial(write_labels, file_format, **target)
    output_dir(out)
    if video:
        segment_video(model, source, out, options)
    else:
        segment_photos(model, photos, out, options, save_scores, write)


def default_config() -> Path:
    """Return the config of OpenAI's ViT-B/16 if its weights were fetched, else the miniature's.

    In the second case, a line on stderr says so.
    """
    if fetched_clip():
        return CONFIGS / DEFAULT
    print(
        'no CLIP is fetched yet (maskclip download_weights --models ViT-B-16 --students): this is '
        'the miniature, which knows fourteen words of its own small world',
        file=sys.stderr,
    )
    return CONFIGS / MINIATURE


def fetched_clip() -> bool:
    """Tell whether the weights of OpenAI's ViT-B/16 are on this machine."""
    files = fetched_names('ViT-B-16', 'openai')
    if any(Path(in_checkout(f'pretrain/{name}')).is_file() for name in files):
        return True
    repo = 'timm/vit_base_patch16_clip_224.openai'
    return any(isinstance(try_to_load_from_cache(repo, x), str) for x in HUB_NAMES.values())


def segment_photos(
    model: Segmenter,
    photos: Sequence[Path],
    out: Path,
    options: Mapping[str, Any],
    save_scores: bool,
    write: Callable[[list[tuple[str, str]]], None] | None = None,
) -> None:
    """Write overlay and labels of each photo, and results.json; name and skip a bad photo.

    Args:
        write: is called with the (photo, label PNG) paths of all photos.

    Raises:
        UserError: at the end, if any photo could not be read or written.
    """
    names, results, errors = unique_names(photos), {}, []
    try:
        with Progress(len(photos), 'segment', unit='photo') as progress:
            for path in photos:
                try:
                    result = segment(model, path, **options)
                    prefix = f'{out / names[str(path)]}'
                    result.save(f'{prefix}_overlay.png')
                    result.save_labels(f'{prefix}{LABELS}')
                    if save_scores:
                        result.save_scores(f'{prefix}_scores.npz')
                    results[str(path)] = result.summary()
                except UserError as error:
                    errors.append(str(error))
                    print(f'skipped: {error}', file=sys.stderr)
                progress.update()
    finally:  # also of a run that is stopped
        write_json(out / 'results.json', results)
    if write is not None and results:
        write([(path, f'{out / names[path]}{LABELS}') for path in results])
    print(f'{len(results)} of {len(photos)} photos segmented; written to {out}')
    if errors:
        raise UserError(f'{len(errors)} of {len(photos)} photos could not be segmented; see above')


def _require_video(path: Path, out: Path) -> None:
    """Refuse what must not reach OpenCV: lists of other files, and names that it cannot pass on.

    Raises:
        UserError: no such file, no container of VIDEOS, or a name that is not UTF-8.
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


def some_frames(source: Path, count: int = 16) -> list[np.ndarray]:
    """Read frames of a video at equal distances, (H, W, 3) uint8 RGB each."""
    reader, frames = cv2.VideoCapture(str(source)), []
    total = max(int(reader.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    for i in range(min(count, total)):
        reader.set(cv2.CAP_PROP_POS_FRAMES, i * total // min(count, total))
        success, frame = reader.read()
        if success:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return frames


def segment_video(model: Segmenter, source: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Write the overlay as a video, and results.json with one entry per frame.

    Raises:
        UserError: the video cannot be read, has no frame, or cannot be written.
    """
    target = out / f'{source.stem}_overlay.mp4'
    results: dict[str, Any] = {}
    reader = cv2.VideoCapture(str(source))
    with atomic_path(target) as partial:
        frames = max(int(reader.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        rate, writer = reader.get(cv2.CAP_PROP_FPS) or 25.0, None
        with Progress(frames, 'segment', unit='frame') as progress:
            while True:
                success, frame = reader.read()
                if not success:
                    break
                result = segment(model, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), **options)
                picture = np.ascontiguousarray(_even(result.tinted())[..., ::-1])
                if writer is None:
                    code = cv2.VideoWriter.fourcc(*'mp4v')
                    size = (picture.shape[1], picture.shape[0])
                    writer = cv2.VideoWriter(str(partial), code, rate, size)
                writer.write(picture)
                results[str(len(results))] = result.summary()
                progress.update()
        if writer is None:
            raise UserError(f'{source} is no video that can be read, or has no frame')
        writer.release()
    write_json(out / 'results.json', results)
    print(f'{len(results)} frames segmented; written to {target}')


def _even(picture: np.ndarray) -> np.ndarray:
    """Crop (H, W, 3) to an even height and width, as codecs want."""
    height, width = picture.shape[:2]
    return picture[: height - height % 2 or 1, : width - width % 2 or 1]
