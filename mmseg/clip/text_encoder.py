"""Class names -> text embeddings: computed by CLIP's text tower, cached on disk, or read."""

import functools
import hashlib
import json
import logging
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import Progress, cache_folder, hub_errors
from mmseg.utils.tensors import digest_state
from mmseg.vocabularies import Vocabulary, resolve_templates

from .huggingface import TEXT_INPUTS, DualEncoder, read_tokenizer
from .load import LoadedCLIP
from .text_files import stored_text, write_text_embeddings

CACHE_FORMAT = 1
logger = logging.getLogger(__name__)


def text_embeddings(
    clip: LoadedCLIP,
    vocabulary: Vocabulary,
    templates: str | Sequence[str],
    *,
    renormalize: bool = True,
    cache_dir: str | Path | None = None,
) -> Tensor:
    """Embed a vocabulary, or read its embeddings from the cache.

    The key of the cache is a digest of all that matters: the text tower's weights and structure,
    the prompts, the templates and the normalisation.

    Args:
        templates: a name of `TEMPLATES`, or sentences with {}.
        renormalize: see `embed_prompts`.
        cache_dir: default `$MMSEG_CACHE` or `~/.cache/mmseg-maskclip`.

    Returns:
        (C, D)

    Raises:
        UserError: the CLIP has no text tower, or cannot read a class name.
    """
    if not clip.has_text:
        raise UserError(
            f'{clip.source} holds no text tower to embed the classes with; name a file of '
            'embeddings (text.file) or weights with both towers'
        )
    templates = resolve_templates(templates)
    _warn_of_foreign_scripts(clip, vocabulary.prompts)
    if clip.source == 'random':
        return embed_prompts(clip, vocabulary.prompts, templates, renormalize=renormalize)
    key = _cache_key(clip, vocabulary, templates, renormalize)
    path = Path(cache_dir or cache_folder(), f'{key}.safetensors')
    rows = stored_text(path)
    if rows is not None and rows.shape == (len(vocabulary), clip.embed_dim or rows.shape[1]):
        return rows
    rows = embed_prompts(clip, vocabulary.prompts, templates, renormalize=renormalize)
    try:
        write_text_embeddings(path, rows)
    except (UserError, SafetensorError):
        pass  # a read-only home: computed again next time
    return rows


@torch.no_grad()
def embed_prompts(
    clip: LoadedCLIP,
    prompts: Sequence[Sequence[str]],
    templates: Sequence[str],
    *,
    renormalize: bool = True,
    batch: int = 256,
) -> Tensor:
    """Average the unit embeddings of a class's sentences (CLIP's prompt ensembling).

    Args:
        prompts: (C) lists of synonyms. Each is put into every template.
        renormalize: scale the means to unit length. The original's prior encoder does not (Q9).
        batch: sentences per forward pass.

    Returns:
        (C, D)
    """
    sentences = [
        [template.replace('{}', prompt) for prompt in synonyms for template in templates]
        for synonyms in prompts
    ]
    unique = list(dict.fromkeys(s for group in sentences for s in group))
    if unknown := unknown_words(clip, unique):
        raise UserError(
            f'{clip.source} never learned the words {", ".join(unknown[:5])}; name classes by '
            'words that it was trained with, or use another CLIP'
        )
    tokens, parts = _tokenize(clip, unique), []
    with Progress(len(unique), 'text', unit='sentence') as progress:
        for part in tokens.split(batch):
            parts.append(F.normalize(encode_text(clip.model, part), dim=-1))
            progress.update(len(part))
    rows, row_of = torch.cat(parts), {sentence: i for i, sentence in enumerate(unique)}
    means = torch.stack([rows[[row_of[s] for s in group]].mean(dim=0) for group in sentences])
    return F.normalize(means, dim=-1) if renormalize else means


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Run `model.encode_text` without the cost of padding: (S, L) token ids -> (S, D).

    In a causal tower, tokens after the end-of-text token cannot change it, so the sequences are cut
    after the longest sentence.
    """
    import open_clip
    from open_clip.transformer import text_global_pool

    causal = isinstance(model, open_clip.CLIP) and model.attn_mask is not None
    if not causal or model.text_pool_type != 'argmax' or not torch.is_tensor(model.text_projection):
        return model.encode_text(tokens)
    length = int(tokens.argmax(dim=-1).max()) + 1
    tokens = tokens[:, :length]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    hidden = text_global_pool(model.ln_final(hidden), tokens, 'argmax')
    return hidden @ model.text_projection


def _tokenize(clip: LoadedCLIP, sentences: list[str]) -> Tensor:
    """(S) -> (S, L) token ids; of a DualEncoder as its `encode_text` takes them"""
    limit = clip.text_cfg.get('context_length', 77)
    tokenizer = _tokenizer(clip)
    is_dual = isinstance(clip.model, DualEncoder)
    if is_dual:
        parts = tokenizer(sentences, padding='max_length', max_length=limit)
        long = [s for s, ids in zip(sentences, parts['input_ids']) if len(ids) > limit]
    elif 'hf_tokenizer_name' in clip.text_cfg:
        return tokenizer(sentences, context_length=limit)
    else:
        tokens = tokenizer(sentences, context_length=limit + 1)
        long = [sentences[i] for i in tokens[:, limit].nonzero()[:, 0]]
    for sentence in long:
        raise UserError(
            f'the class name in {sentence[:60] + "..."!r} is too long: CLIP reads up to {limit} '
            'tokens of a sentence, and a word takes one or more; shorten it'
        )
    if is_dual:
        return torch.stack([torch.tensor(parts[k]) for k in TEXT_INPUTS if k in parts], dim=1)
    return tokens[:, :limit]


def _tokenizer(clip: LoadedCLIP) -> Any:
    """Build the CLIP's own tokenizer. Some are fetched from a hub."""
    import open_clip

    cure = (
        'it needs `pip install transformers` and, the first time, a network; or name a file of '
        'embeddings (text.file)'
    )
    with hub_errors(f'the tokenizer of {clip.name} could not be loaded', cure):
        if isinstance(clip.model, DualEncoder):
            return read_tokenizer(clip.source)
        if 'hf_tokenizer_name' in clip.text_cfg:
            kwargs = clip.text_cfg.get('tokenizer_kwargs', {})
            return open_clip.tokenizer.HFTokenizer(clip.text_cfg['hf_tokenizer_name'], **kwargs)
        known = open_clip.get_model_config(clip.name) or clip.name.startswith('hf-hub:')
        return open_clip.get_tokenizer(clip.name) if known else open_clip.tokenize


def unknown_words(clip: LoadedCLIP, sentences: Sequence[str]) -> list[str]:
    """List the words that a text tower of few words, such as the miniature's, never learned.

    The embeddings of such words are 0.
    """
    import open_clip

    if 'hf_tokenizer_name' in clip.text_cfg or not hasattr(clip.model, 'token_embedding'):
        return []
    known = (clip.model.token_embedding.weight != 0).any(dim=1)
    known[0] = True  # the padding
    words = dict.fromkeys(word.strip('.,!?') for text in sentences for word in text.split())
    return [word for word in words if word and not known[open_clip.tokenize(word)].all()]


def _warn_of_foreign_scripts(clip: LoadedCLIP, prompts: Sequence[Sequence[str]]) -> None:
    """Warn of names in scripts that an English text tower reads as bytes; once a process."""
    if 'hf_tokenizer_name' in clip.text_cfg:  # some of these learned other languages
        return
    foreign = [name for synonyms in prompts for name in synonyms if not all(map(_latin, name))]
    if foreign:
        _warn_once(', '.join(map(repr, foreign[:5])))


def _latin(letter: str) -> bool:
    symbol = unicodedata.category(letter) in ('So', 'Sk')  # emoji and their modifiers
    return not symbol and (not letter.isalpha() or 'LATIN' in unicodedata.name(letter, ''))


@functools.cache
def _warn_once(names: str) -> None:
    logger.warning(
        'CLIP learned English words and may not know %s; name such classes in English', names
    )


def _cache_key(
    clip: LoadedCLIP, vocabulary: Vocabulary, templates: Sequence[str], renormalize: bool
) -> str:
    import open_clip

    text = {k: v for k, v in clip.model.state_dict().items() if not k.startswith('visual.')}
    structure = str([m for n, m in clip.model.named_modules() if n and not n.startswith('visual')])
    content = [CACHE_FORMAT, open_clip.__version__, digest_state(text), structure, clip.name]
    content += [clip.text_cfg, vocabulary.prompts, templates, renormalize]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:32]
