"""Fetch CLIPs, text embeddings and students' ImageNet weights into one folder, and verify them."""

from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch

from mmseg.clip import load_clip, text_embeddings, write_text_embeddings
from mmseg.errors import UserError
from mmseg.models.checkpoints import read_mit
from mmseg.utils import atomic_path, digest_file, output_dir
from mmseg.utils.checkpoint import read_state
from mmseg.utils.download import download
from mmseg.vocabularies import Vocabulary, load_vocabulary

from .manifest import NAME, problems, read_manifest, record
from .sources import Source, WeightFiles, clip_weights, located, student_weights


def fetch_weights(
    folder: Path, models: Sequence[str], vocabularies: Sequence[str], students: Sequence[str]
) -> None:
    """Fetch all weights that are named, and embed all vocabularies with each CLIP.

    Raises:
        UserError: an unknown name at once; at the end, if anything could not be fetched.
    """
    output_dir(folder)
    read_manifest(folder)  # report a damaged one first
    words = [load_vocabulary(name) for name in vocabularies]
    clips = [clip_weights(name) for name in models]
    items, failed = clips + [student_weights(name) for name in students], 0
    for item in items:
        try:
            _fetch(item, folder)
        except UserError as error:
            failed += 1
            print(f'{item.title}: {error}', flush=True)
    for item in clips:
        for vocabulary in words if _present(item, folder) else ():
            _embed(item, vocabulary, folder)
    if failed:
        raise UserError(f'{failed} of {len(items)} could not be fetched; see above')
    print(f'all there; noted in {folder / NAME}')


def verify_weights(folder: Path) -> None:
    """Check every file of the manifest, without a network.

    Raises:
        UserError: no manifest, or a file that is not as it was fetched.
    """
    files, wrong = read_manifest(folder), problems(folder)
    if not files:
        raise UserError(f'{folder / NAME} is not there; nothing was fetched yet')
    for file in files:
        print(f'{file}: {wrong.get(file, "as fetched")}')
    if wrong:
        raise UserError(f'{len(wrong)} of {len(files)} files in {folder} are not as fetched')


def _present(item: WeightFiles, folder: Path) -> str | None:
    """Return the file of an item that lies in the folder, or None."""
    return next((file for file, _ in item.choices if (folder / file).is_file()), None)


def _fetch(item: WeightFiles, folder: Path) -> None:
    """Fetch an item from the first source that has it, unless the right file is there."""
    file = _present(item, folder)
    if file is not None and _is_right(item, file, folder):
        print(f'{folder / file}: there already')
        return
    if file is not None:
        (folder / file).rename(folder / f'{file}.wrong')
    reasons = []
    for file, source in item.choices:
        try:
            url = _fetch_from(source, folder / file, item.mit)
        except UserError as error:
            reasons.append(str(error))
            continue
        record(folder, file, url.partition('?')[0], item.licence)
        print(f'{folder / file}: fetched, sha256 {digest_file(folder / file)[:12]}...')
        return
    raise UserError('; '.join(reasons))


def _fetch_from(source: Source, target: Path, mit: bool) -> str:
    """Fetch a file, open it, and return its address; a MiT is kept in this project's names."""
    url, digest = located(source)
    if not mit:
        return download([url], target, sha256=digest, recognise=read_state)
    raw = target.with_name(f'{target.stem}.raw{Path(source.filename or "").suffix}')
    download([url], raw, sha256=digest, recognise=read_mit)
    with atomic_path(target) as temporary:
        torch.save(read_mit(raw), temporary)
    raw.unlink()
    return url


def _is_right(item: WeightFiles, file: str, folder: Path) -> bool:
    """Compare a file with its known digest, or with the manifest's; open one without a digest."""
    known = dict(item.choices)[file].sha256 or read_manifest(folder).get(file, {}).get('sha256')
    try:
        if known is None:
            read_state(folder / file)
        elif digest_file(folder / file) != known:
            raise UserError(f'{folder / file}: its sha256 is not the expected one')
    except UserError as error:
        print(f'{error}; it is kept as {file}.wrong')
        return False
    return True


def _embed(item: WeightFiles, vocabulary: Vocabulary, folder: Path) -> None:
    """Embed a vocabulary with the 85 templates, into the cache that configs use and a file."""
    model, _, tag = item.title.partition(':')
    if tag == 'openai' and open_clip.get_model_config(f'{model}-quickgelu'):
        model = f'{model}-quickgelu'  # the name that the configs use
    file = f'{vocabulary.name}--{item.title.replace("/", "-").replace(":", "--")}.safetensors'
    rows = text_embeddings(load_clip(model, tag, pretrain_dir=folder), vocabulary, 'maskclip85')
    write_text_embeddings(folder / file, rows)
    record(folder, file, f'computed from {item.title}', 'as the CLIP')
    print(f'{folder / file}: {len(rows)} classes embedded')
