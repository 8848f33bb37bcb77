"""Class names -> text embeddings: computed with the CLIP's own text tower, cached, or read."""

import functools
import hashlib
import json
import logging
import os
import unicodedata
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import text_global_pool
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import Progress, atomic_path, digest_state, reason_of
from mmseg.utils.checkpoint import read_file
from mmseg.vocabularies import resolve_templates

CACHE_FORMAT = 1
logger = logging.getLogger(__name__)


def text_embeddings(clip, vocabulary, templates, *, renormalize=True, cache_dir=None):
    """Vocabulary and templates -> (C, D): `embed_prompts`, kept on disk.

    The key of the cache is a digest of everything that goes in: the text tower's weights and its
    construction, the prompts, the templates, the normalisation.

    Args:
        clip: a LoadedCLIP with a text tower.
        cache_dir: folder of the cache; default `$MMSEG_CACHE` or `~/.cache/mmseg-maskclip`.

    Raises:
        UserError: the CLIP came without its text tower.
    """
    if not clip.has_text:
        raise UserError(
            f'{clip.source} holds no text tower to embed the classes with; name a file of '
            'embeddings (text.file) or weights with both towers'
        )
    templates = resolve_templates(templates)
    _warn_of_other_scripts(clip, vocabulary.prompts)
    if clip.source == 'random':
        return embed_prompts(clip, vocabulary.prompts, templates, renormalize=renormalize)
    path = (
        _cache_dir(cache_dir)
        / f'{_cache_key(clip, vocabulary, templates, renormalize)}.safetensors'
    )
    rows = stored_text(path)
    if rows is not None and rows.shape == (len(vocabulary), clip.embed_dim or rows.shape[1]):
        return rows
    rows = embed_prompts(clip, vocabulary.prompts, templates, renormalize=renormalize)
    try:
        with atomic_path(path) as temporary:
            save_file({'text': rows}, temporary)
    except (UserError, SafetensorError):
        pass  # a read-only home: computed again next time
    return rows


@torch.no_grad()
def embed_prompts(clip, prompts, templates, *, renormalize=True, batch=256) -> Tensor:
    """(C) tuples of synonyms, templates -> (C, D): the mean of the sentences' unit embeddings.

    Args:
        renormalize: scale the means to unit length (the original's prior_encoder leaves them out,
            Q9).
        batch: sentences at a time.
    """
    sentences = [
        [template.replace('{}', prompt) for prompt in synonyms for template in templates]
        for synonyms in prompts
    ]
    flat = list(dict.fromkeys(s for group in sentences for s in group))
    _require_known(clip, flat)
    rows = _encode(clip, flat, batch)
    place = {sentence: i for i, sentence in enumerate(flat)}
    means = torch.stack([rows[[place[s] for s in group]].mean(dim=0) for group in sentences])
    return F.normalize(means, dim=-1) if renormalize else means


def _require_known(clip, sentences):
    """A text tower of few words (the miniature's) must not guess at others."""
    if 'hf_tokenizer_name' in clip.text_cfg:
        return
    unknown = unknown_words(clip.model, sentences)
    if unknown:
        raise UserError(
            f'{clip.source} never learned the words {", ".join(unknown[:5])}; name classes by '
            'words that it was trained with, or use another CLIP'
        )


def unknown_words(model, sentences):
    """An open_clip model, sentences -> words whose embeddings are all 0: it never read them"""
    if not hasattr(model, 'token_embedding'):
        return []
    known = (model.token_embedding.weight != 0).any(dim=1)
    known[0] = True  # the padding
    words = dict.fromkeys(word.strip('.,!?') for text in sentences for word in text.split())
    return [word for word in words if word and not known[open_clip.tokenize(word)].all()]


def _warn_of_other_scripts(clip, prompts):
    """A text tower that learned English reads other scripts as bytes; said once a process."""
    if 'hf_tokenizer_name' in clip.text_cfg:  # some of these learned other languages
        return
    foreign = [name for synonyms in prompts for name in synonyms if not all(map(_latin, name))]
    if foreign:
        _warn_once(
            'CLIP learned English words: it may see nothing in %s; better name such classes in '
            'English',
            ', '.join(map(repr, foreign[:5])),
        )


def _latin(letter):
    symbol = unicodedata.category(letter) in ('So', 'Sk')  # emoji and their modifiers
    return not symbol and (not letter.isalpha() or 'LATIN' in unicodedata.name(letter, ''))


@functools.cache
def _warn_once(message, words):
    logger.warning(message, words)


def _encode(clip, sentences, batch):
    """sentences -> (S, D) unit rows"""
    tokens = _tokens(clip, sentences)
    rows = []
    with Progress(len(sentences), 'text', unit='sentence') as progress:
        for part in tokens.split(batch):
            rows.append(F.normalize(encode_text(clip.model, part), dim=-1))
            progress.update(len(part))
    return torch.cat(rows)


def _tokens(clip, sentences):
    """sentences -> (S, L) token ids

    Raises:
        UserError: CLIP would not read a sentence to its end.
    """
    limit = clip.text_cfg.get('context_length', 77)
    tokenizer = _tokenizer(clip)
    if 'hf_tokenizer_name' in clip.text_cfg:
        return tokenizer(sentences, context_length=limit)
    tokens = tokenizer(sentences, context_length=limit + 1)
    for sentence in (sentences[i] for i in tokens[:, limit].nonzero()[:1, 0]):
        raise UserError(
            f'the class name in {sentence[:60] + "..."!r} is too long: CLIP reads up to {limit} '
            'tokens of a sentence, and a word takes one or more; shorten it'
        )
    return tokens[:, :limit]


def _tokenizer(clip):
    """The CLIP's own tokenizer; some come from a hub.

    Raises:
        UserError: it cannot be had without a network.
    """
    try:
        if 'hf_tokenizer_name' in clip.text_cfg:
            kwargs = clip.text_cfg.get('tokenizer_kwargs', {})
            return open_clip.tokenizer.HFTokenizer(clip.text_cfg['hf_tokenizer_name'], **kwargs)
        known = open_clip.get_model_config(clip.name) or clip.name.startswith('hf-hub:')
        return open_clip.get_tokenizer(clip.name) if known else open_clip.tokenize
    except Exception as error:  # transformers and the hub client have many
        raise UserError(
            f'the tokenizer of {clip.name} could not be had ({reason_of(error)}); '
            'it needs `pip install transformers` and, the first time, a network; or name a file of '
            'embeddings (text.file)'
        ) from error


def encode_text(model, tokens):
    """(S, L) token ids -> (S, D), as `model.encode_text`, but without the padding's cost.

    In a causal tower nothing behind the end-of-text token reaches it, so the sequence may end
    there.
    """
    causal = isinstance(model, open_clip.CLIP) and model.attn_mask is not None
    if not causal or model.text_pool_type != 'argmax' or not torch.is_tensor(model.text_projection):
        return model.encode_text(tokens)
    length = int(tokens.argmax(dim=-1).max()) + 1
    tokens = tokens[:, :length]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    hidden = text_global_pool(model.ln_final(hidden), tokens, 'argmax')
    return hidden @ model.text_projection


def _cache_key(clip, vocabulary, templates, renormalize):
    text = {k: v for k, v in clip.model.state_dict().items() if not k.startswith('visual.')}
    structure = str([m for n, m in clip.model.named_modules() if n and not n.startswith('visual')])
    content = [CACHE_FORMAT, open_clip.__version__, digest_state(text), structure, clip.name]
    content += [clip.text_cfg, vocabulary.prompts, templates, renormalize]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:32]


def _cache_dir(cache_dir):
    chosen = cache_dir or os.environ.get('MMSEG_CACHE') or Path.home() / '.cache' / 'mmseg-maskclip'
    return Path(chosen)


def read_text_embeddings(path, vocabulary, *, dim=None):
    """.pth, .npy or .safetensors of one (C, D) matrix -> (C, D) float32, as it stands in the file.

    Args:
        vocabulary: its length is what the rows must number.
        dim: the width D that the tower's features have, when known.

    Raises:
        UserError: the file is missing, is no single matrix, or has other rows or columns.
    """
    cure = 'make them with tools/embed_text.py'
    rows = _matrix_of(read_file(path, cure=cure))
    if rows is None:
        raise UserError(
            f'the text embeddings {path} are no single matrix of classes x width; {cure}'
        )
    if (rows == 0).all(dim=1).any():
        raise UserError(f'the text embeddings {path} hold rows that are zero; {cure}')
    if len(rows) != len(vocabulary):
        raise UserError(
            f'the text embeddings {path} have {len(rows)} rows, but the vocabulary '
            f'{vocabulary.name} has {len(vocabulary)} classes'
        )
    if dim is not None and rows.shape[1] != dim:
        raise UserError(
            f'the text embeddings {path} are {rows.shape[1]} wide, but the image tower '
            f'gives {dim}; they belong to another CLIP'
        )
    return rows.float()


def _matrix_of(content):
    """What a file holds -> its (C, D) of floating point, or None"""
    if isinstance(content, dict) and len(content) == 1:
        (content,) = content.values()
    single = torch.is_tensor(content) and content.ndim == 2 and content.is_floating_point()
    return content if single else None


def stored_text(path):
    """A file that this project wrote -> (C, D); None where there is none, or none to be read"""
    try:
        return _matrix_of(read_file(path))
    except UserError:
        return None


def write_text_embeddings(path, rows):
    """Write (C, D) as .npy, .safetensors or .pth, beside and then renamed."""
    path = Path(path)
    with atomic_path(path) as temporary:
        if path.suffix == '.npy':
            np.save(temporary, rows.numpy())
        elif path.suffix == '.safetensors':
            save_file({'text': rows}, temporary)
        else:
            torch.save(rows, temporary)
