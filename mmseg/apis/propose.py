"""Which words? Propose classes for photos: the names of a large list that CLIP sees in them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mmseg.clip.text_encoder import unknown_words
from mmseg.errors import UserError
from mmseg.utils import Count, Progress, require_setting
from mmseg.vocabularies import Vocabulary, load_vocabulary

from .inference import Photo, Segmenter, as_photo
from .words import Words

LARGE_LIST = 'pascal_context_459'
TEMPLATES = 'plain'  # one sentence a name; the 85 of a config take minutes for 459 names
TAU = 0.01  # CLIP's own temperature
SHARE = 0.01  # of the photos, that a proposed word has at least
MOST = 500  # photos that are looked at


class Proposal(NamedTuple):
    """Attributes:
    shares: {class as in --classes: its share of the photos}, the largest first.
    photos: how many were read.
    names: how many the list has.
    """

    shares: dict[str, float]
    photos: int
    names: int


def propose_words(
    model: Segmenter,
    photos: Sequence[Photo],
    candidates: str | Path | Sequence[str] | Vocabulary | None = None,
    *,
    top: int | None = None,
) -> Proposal:
    """Propose the names of a list that describe photos, by CLIP's image embedding of each.

    A name's share is the mean over the photos of CLIP's posterior, softmax(100 * cosine) over the
    list. A longer name counts for the names in it, too: a red heart is a heart. The longer one is
    proposed in its place if it makes up more than half of its share.

    Args:
        model: of `init_model`. A class weight in its config says what its CLIP sees of a photo.
        photos: of more than 500, 500 at equal distances are read.
        candidates: a vocabulary's name, its file, or a list; None for `pascal_context_459`, or for
            the config's classes if its CLIP cannot read that.
        top: at most so many words; None for all that have a share of 1 %.

    Raises:
        UserError: a student, unreadable words, or no photo that can be read.
    """
    if top is not None:
        require_setting('top', top, Count)
    if model.is_student:
        raise UserError('a student knows its own classes only; propose words by a MaskCLIP')
    words = _candidates(model) if candidates is None else load_vocabulary(candidates)
    if len(photos) > MOST:
        photos = [photos[i * len(photos) // MOST] for i in range(MOST)]
    own, read = _mean_posterior(model, words, photos)
    shares, chosen = _choose(own.tolist(), [prompts[0] for prompts in words.prompts])
    chosen.sort(key=lambda i: -shares[i])
    enough = [i for i in chosen if shares[i] >= SHARE] or chosen[:1]
    lines = {}
    for i in enough[:top]:
        label, prompts = words.labels[i], ' | '.join(words.prompts[i])
        lines[label if label == prompts else f'{label}: {prompts}'] = shares[i]
    return Proposal(lines, read, len(words))


def print_proposal(found: Proposal) -> list[str]:
    """Print the words with their shares, and as an argument of the command line; return them."""
    for name, share in found.shares.items():
        print(f'{share:6.1%}  {name}')
    print(f'{len(found.shares)} of {found.names} names, by their shares of {found.photos} photos:')
    print(f'--classes "{", ".join(found.shares)}"', flush=True)
    return list(found.shares)


def _candidates(model: Segmenter) -> Vocabulary:
    """Return the large list, or the config's classes if they are all that can be compared."""
    large = load_vocabulary(LARGE_LIST)
    names = [name for prompts in large.prompts for name in prompts]
    readable = model.clip.has_text and not unknown_words(model.clip, names)
    return large if readable else model.vocabulary


@torch.inference_mode()
def _mean_posterior(
    model: Segmenter, words: Vocabulary, photos: Sequence[Photo]
) -> tuple[Tensor, int]:
    """Return the mean probability of each class (C), and how many photos could be read."""
    templates = None if words == model.vocabulary else TEMPLATES
    network = model.network(Words(words, templates=templates, tau=TAU))
    weight, total, read = network.class_weight, torch.zeros(len(words)), 0
    groups = torch.tensor(range(len(words)) if weight.groups is None else weight.groups)
    with Progress(len(photos), 'words', unit='photo') as progress:
        for photo in photos:
            progress.update()
            try:
                image, crop = model.network_input(network, as_photo(photo))
            except UserError as error:
                print(f'skipped: {error}', file=sys.stderr)
                continue
            embedding = weight.embed(image[None] if crop is None else crop, network.backbone)
            posterior = (weight.cosines(embedding)[0].float() / TAU).softmax(dim=0)
            total.index_add_(0, groups, posterior.cpu())
            read += 1
    if not read:
        raise UserError('no photo could be read, so no words can be proposed')
    return total / read, read


def _choose(own: Sequence[float], names: Sequence[str]) -> tuple[list[float], list[int]]:
    """Add the shares of longer names to those in them; of each such pair choose one.

    Returns:
        The shares (C), and the ids that are chosen.
    """
    inner, shares = _names_within(names), list(own)
    for i, shorter in enumerate(inner):
        for j in shorter:
            shares[j] += own[i]
    most = [all(shares[i] > shares[j] / 2 for j in inner[i]) for i in range(len(names))]
    replaced = {j for i, shorter in enumerate(inner) for j in shorter if most[i]}
    return shares, [i for i in range(len(names)) if most[i] and i not in replaced]


def _names_within(names: Sequence[str]) -> list[set[int]]:
    """Find the names that a name ends in, or that it joins by "and": 'red heart' -> {'heart'}."""
    ids = {name.lower(): i for i, name in enumerate(names)}
    found = []
    for i, name in enumerate(names):
        parts = [part.split() for part in name.lower().split(' and ')]
        ends = {' '.join(part[k:]) for part in parts for k in range(len(part))}
        found.append({ids[end] for end in ends if end in ids} - {i})
    return found
