"""Fetch what the configs need into pretrain/: CLIPs, text embeddings, students' ImageNet weights.

python tools/download_weights.py [--models RN50 ViT-B-16 ...] [--vocabularies pascal_context_59 ...]
    [--students resnet101c mit_b0 mit_b5 ...] [--dir pretrain] [--verify]

A model is an open_clip name, OpenAI's weights unless a tag follows (ViT-B-16:laion2b_s34b_b88k). A
download that broke off goes on where it stopped; every file is checked, and noted in MANIFEST.json.
HF_ENDPOINT, HF_HUB_OFFLINE and the proxies of the environment count. `--verify` uses no network.
"""

import argparse
from pathlib import Path

import _checkout  # noqa: F401  first: it decides which mmseg is found
import open_clip
import torch

from mmseg.apis.command import run_command
from mmseg.clip import load_clip, text_embeddings, write_text_embeddings
from mmseg.errors import UserError
from mmseg.models.checkpoints import read_mit
from mmseg.preparation.manifest import NAME, problems, read_manifest, record
from mmseg.preparation.sources import clip_weights, located, student_weights
from mmseg.utils import atomic_path, digest_file, output_dir
from mmseg.utils.checkpoint import read_state
from mmseg.utils.download import download
from mmseg.vocabularies import load_vocabulary


def main():
    args = parse_arguments()
    if args.verify:
        verify(args.dir)
        return
    folder, failed = output_dir(args.dir), 0
    read_manifest(folder)  # a damaged one is said first
    vocabularies = [load_vocabulary(name) for name in args.vocabularies]
    clips = [clip_weights(name) for name in args.models]
    students = [student_weights(name) for name in args.students]
    for item in clips + students:
        try:
            fetch(item, folder)
        except UserError as error:
            failed += 1
            print(f'{item.title}: {error}', flush=True)
    for item in clips:
        for vocabulary in vocabularies if present(item, folder) else ():
            embed(item, vocabulary, folder)
    if failed:
        raise UserError(f'{failed} of {len(clips) + len(students)} could not be had; see above')
    print(f'all there; noted in {folder / NAME}')


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--models', nargs='*', default=['RN50', 'ViT-B-16'])
    parser.add_argument('--vocabularies', nargs='*', default=['pascal_context_59'])
    parser.add_argument('--students', nargs='*', default=['resnet101c', 'mit_b0', 'mit_b5'])
    parser.add_argument('--dir', type=Path, default=Path('pretrain'))
    parser.add_argument('--verify', action='store_true', help='check what is there; no network')
    return parser.parse_args()


def verify(folder):
    """Check every file of the manifest."""
    files, wrong = read_manifest(folder), problems(folder)
    if not files:
        raise UserError(f'{folder / NAME} is not there; nothing was fetched yet')
    for file in files:
        print(f'{file}: {wrong.get(file, "as fetched")}')
    if wrong:
        raise UserError(f'{len(wrong)} of {len(files)} files in {folder} are not as fetched')


def present(item, folder):
    """The choice of an item that lies in the folder, or None"""
    return next((file for file, _ in item.choices if (folder / file).is_file()), None)


def fetch(item, folder):
    """Get an item from the first source that gives it, unless it is there and as it should be."""
    file = present(item, folder)
    if file is not None and is_right(item, file, folder):
        print(f'{folder / file}: there already')
        return
    if file is not None:
        (folder / file).rename(folder / f'{file}.wrong')
    reasons = []
    for file, source in item.choices:
        try:
            url = fetch_from(source, folder / file, item.mit)
        except UserError as error:
            reasons.append(str(error))
            continue
        record(folder, file, url.partition('?')[0], item.licence)
        print(f'{folder / file}: fetched, sha256 {digest_file(folder / file)[:12]}...')
        return
    raise UserError('; '.join(reasons))


def fetch_from(source, target, mit):
    """-> the address of a file that was opened; a MiT is kept in our names, and that file alone"""
    url, digest = located(source)
    if not mit:
        return download([url], target, sha256=digest, recognise=read_state)
    raw = target.with_name(f'{target.stem}.raw{Path(source.filename).suffix}')
    download([url], raw, sha256=digest, recognise=read_mit)
    with atomic_path(target) as temporary:
        torch.save(read_mit(raw), temporary)
    raw.unlink()
    return url


def is_right(item, file, folder):
    """A known digest counts; else what the manifest says; a file put there by hand is opened."""
    known = dict(item.choices)[file].sha256 or read_manifest(folder).get(file, {}).get('sha256')
    try:
        if known is None:
            read_state(folder / file)
        elif digest_file(folder / file) != known:
            raise UserError(f'{folder / file}: its sha256 is not what it should be')
    except UserError as error:
        print(f'{error}; it is kept as {file}.wrong')
        return False
    return True


def embed(item, vocabulary, folder):
    """Text embeddings with the 85 templates: into the cache that configs use, and into a file."""
    model, _, tag = item.title.partition(':')
    if tag == 'openai' and open_clip.get_model_config(f'{model}-quickgelu'):
        model = f'{model}-quickgelu'  # the name that the configs use
    file = f'{vocabulary.name}--{item.title.replace("/", "-").replace(":", "--")}.safetensors'
    rows = text_embeddings(load_clip(model, tag, pretrain_dir=folder), vocabulary, 'maskclip85')
    write_text_embeddings(folder / file, rows)
    record(folder, file, f'computed from {item.title}', 'as the CLIP')
    print(f'{folder / file}: {len(rows)} classes embedded')


if __name__ == '__main__':
    run_command(main)
