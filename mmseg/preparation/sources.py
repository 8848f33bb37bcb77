"""Find the sources of weights: the files of `pretrain`, and where each can be fetched."""

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mmseg.clip import fetched_names
from mmseg.errors import UserError
from mmseg.utils import nearest, reason_of

MIT_SIZES = ('b0', 'b1', 'b2', 'b3', 'b4', 'b5')
MIT_LICENCE = 'NVIDIA Source Code License for SegFormer: for research, not for commercial use'
HUB_NAMES = {'.safetensors': 'open_clip_model.safetensors', '.bin': 'open_clip_pytorch_model.bin'}


class Source(NamedTuple):
    """An address with its sha256, or a file in a repository of the Hugging Face hub."""

    url: str | None = None
    sha256: str | None = None
    repo: str | None = None
    filename: str | None = None


class WeightFiles(NamedTuple):
    """Weights to fetch.

    Attributes:
        title: for messages.
        choices: (file name, Source) pairs, in the order in which they are tried.
        licence: a note for the manifest.
        mit: the weights are a MiT's, whose names are converted.
    """

    title: str
    choices: tuple[tuple[str, Source], ...]
    licence: str
    mit: bool = False


def clip_weights(name: str) -> WeightFiles:
    """Look up a CLIP: 'ViT-B-16' (OpenAI's) or 'ViT-B-16:laion2b_s34b_b88k'.

    Raises:
        UserError: open_clip has no such model or tag.
    """
    import open_clip

    model, _, tag = name.partition(':')
    tag = tag or 'openai'
    if open_clip.get_model_config(model) is None:
        near = nearest(model, open_clip.list_models())
        raise UserError(f'open_clip has no model {model!r}{near}; see open_clip.list_models()')
    known = open_clip.get_pretrained_cfg(model, tag)
    if not known:
        tags = open_clip.list_pretrained_tags_by_model(model)
        listed = ', '.join(tags) or 'none'
        raise UserError(f'{model} has no weights {tag!r}{nearest(tag, tags)}; known: {listed}')
    repo = '/'.join(known.get('hf_hub', '').split('/')[:2])
    licence = 'MIT (OpenAI)' if tag == 'openai' else f'see https://huggingface.co/{repo}'
    return WeightFiles(f'{model}:{tag}', tuple(_clip_choices(model, tag, known, repo)), licence)


def _clip_choices(
    model: str, tag: str, known: dict[str, Any], repo: str
) -> Iterator[tuple[str, Source]]:
    """Yield the direct address, then files of the hub."""
    names = fetched_names(model, tag)
    if known.get('url'):
        digest = re.search(r'/([0-9a-f]{64})/', known['url'])
        file = names[0] if tag == 'openai' else names[-1]
        yield file, Source(known['url'], digest[1] if digest else None)
    if repo:
        filename = known['hf_hub'].removeprefix(repo).strip('/')
        for suffix, default in HUB_NAMES.items():
            if not filename or filename.endswith(suffix):
                target = next(name for name in names if name.endswith(suffix))
                yield target, Source(repo=repo, filename=filename or default)


def student_weights(name: str) -> WeightFiles:
    """Look up a student backbone: a timm model such as 'resnet101c', or 'mit_b0' to 'mit_b5'.

    Raises:
        UserError: timm has no such model, or no weights of it.
    """
    import timm

    if name.removeprefix('mit_') in MIT_SIZES:
        repo, files = f'nvidia/{name.replace("_", "-")}', ('model.safetensors', 'pytorch_model.bin')
        choices = tuple((f'{name}.pth', Source(repo=repo, filename=file)) for file in files)
        return WeightFiles(name, choices, MIT_LICENCE, mit=True)
    if not timm.is_model(name):
        known = [*(f'mit_{size}' for size in MIT_SIZES), *timm.list_models()]
        raise UserError(f'timm has no model {name!r}{nearest(name, known)}')
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise UserError(f'timm has no weights of {name}; name one of timm.list_pretrained()')
    file = f'{cfg.hf_hub_id.split("/")[-1]}.safetensors'
    source = Source(repo=cfg.hf_hub_id, filename='model.safetensors')
    licence = cfg.license or f'see https://huggingface.co/{cfg.hf_hub_id}'
    return WeightFiles(name, ((file, source),), licence)


def located(source: Source) -> tuple[str, str | None]:
    """Find the address and the sha256 of a source; the hub is the one at `HF_ENDPOINT`.

    Raises:
        UserError: the hub has no such file, cannot be reached, or `HF_HUB_OFFLINE` is set.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if source.url:
        return source.url, source.sha256
    assert source.repo and source.filename
    url = hf_hub_url(source.repo, source.filename, endpoint=os.environ.get('HF_ENDPOINT'))
    if os.environ.get('HF_HUB_OFFLINE', '').upper() in ('1', 'TRUE', 'YES', 'ON'):
        raise UserError(f'{url}: HF_HUB_OFFLINE is set')
    try:
        known = get_hf_file_metadata(url)
    except Exception as error:  # the hub client's errors have no common type
        raise UserError(f'{url}: {reason_of(error)}') from error
    digest = known.etag if re.fullmatch(r'[0-9a-f]{64}', known.etag or '') else None
    return known.location or url, digest
