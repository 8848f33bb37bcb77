"""Words proposed for photos: their shares, names within names, precision and recall.

python -m pytest -n0 -s tests/apis/test_propose.py -k hidden     # prints the figures
"""

import itertools
import json
import re

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from PIL import Image

from mmseg.apis import init_model, propose_words
from mmseg.apis.command import run_command
from mmseg.apis.command_lines import run_segment, run_words
from mmseg.apis.propose import _choose, _names_within
from mmseg.apis.segment_files import segment_source
from mmseg.datasets.miniature import COLOURS, LABELS, STUFF, THINGS, MiniatureDataset
from mmseg.datasets.miniature.world import VISIBLE
from mmseg.datasets.reading import crop_for_prior
from mmseg.errors import UserError

CONFIGS = ROOT / 'configs' / 'miniature'
COMPOUNDS = [
    *(f'{colour} {name}' for colour in COLOURS for name in LABELS),
    *(f'{thing} and {ground}' for thing in THINGS for ground in STUFF),
    *(' and '.join(pair) for group in (THINGS, STUFF) for pair in itertools.combinations(group, 2)),
]


def scenes(number):
    """-> photos, and which of LABELS each shows (N, 14)"""
    data = MiniatureDataset(scenes=number, world=1)
    drawn = [data.draw(f'miniature/1/{i:05d}.png') for i in range(number)]
    counts = [np.bincount(scene.mask.ravel(), minlength=len(LABELS)) for scene in drawn]
    return [scene.image for scene in drawn], np.array(counts) >= VISIBLE


@pytest.fixture(scope='module')
def model():
    return init_model(CONFIGS / 'maskclip_rn.py', device='cpu')


def run(function, *arguments):
    try:
        run_command(lambda: function([str(a) for a in arguments]))
    except SystemExit as end:
        return end.code
    return 0


def figures(title, proposed, truth):
    """-> precision and recall, printed too"""
    right = set(proposed) & set(truth)
    precision, recall = len(right) / len(proposed), len(right) / len(truth)
    print(f'{title}: {len(proposed)} proposed, precision {precision:.2f}, recall {recall:.2f}')
    return precision, recall


# The rule


def test_shares_are_the_mean_of_clips_own_probabilities(model):
    images, _ = scenes(6)
    names = ['red', 'heart', 'sand']  # none within another
    with torch.no_grad():
        crops = torch.stack([torch.tensor(crop_for_prior(Image.fromarray(i), 64)) for i in images])
        rows = model.clip.model.encode_image((crops.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)
        tokens = open_clip.tokenize([f'a photo of a {name}.' for name in names], 32)
        text = model.clip.model.encode_text(tokens)
    posterior = (100 * F.normalize(rows) @ F.normalize(text).T).softmax(dim=1).mean(dim=0)
    found = propose_words(model, images, names)
    assert (found.photos, found.names) == (6, 3)
    expected = {n: p for n, p in zip(names, posterior.tolist()) if p >= 0.01}
    assert found.shares == pytest.approx(expected, abs=1e-4)
    assert list(found.shares.values()) == sorted(found.shares.values(), reverse=True)
    assert list(propose_words(model, images, names, top=1).shares) == list(found.shares)[:1]


def test_names_within_names():
    names = [
        'dog',
        'hot dog',
        'Dining Table',
        'table',
        'dog and table',
        'hotdog',
        'bus stop',
        'bus',
    ]
    within = [{names[j] for j in ids} for ids in _names_within(names)]
    assert within == [set(), {'dog'}, {'table'}, set(), {'dog', 'table'}, set(), set(), set()]


@pytest.mark.parametrize(
    'own, chosen',
    [
        ([0.3, 0.1, 0.2], ['heart', 'sand']),  # of 0.4, the red ones are a quarter
        ([0.1, 0.3, 0.2], ['red heart', 'sand']),
        ([0.0, 0.3, 0.0], ['red heart', 'sand']),  # a red heart without any other heart
    ],
)
def test_of_a_name_within_another_one_is_chosen(own, chosen):
    names = ['heart', 'red heart', 'sand']
    shares, ids = _choose(own, names)
    assert [names[i] for i in ids] == chosen
    assert shares == pytest.approx([own[0] + own[1], own[1], own[2]])


def test_every_name_is_chosen_or_has_one_in_its_place():
    rng, names = np.random.default_rng(0), ['a', 'b', 'c a', 'd c a', 'a and b', 'b and c a']
    for _ in range(200):
        _, ids = _choose(rng.dirichlet(np.ones(6) / 3).tolist(), names)
        letters = set(' '.join(names[i] for i in ids).split())
        assert {'a', 'b'} <= letters


# Precision and recall


@pytest.mark.parametrize('tower', ['rn', 'vit'])
def test_words_hidden_among_compounds(tower):
    """In folders that show all 14 words, and in folders that show only some of them."""
    images, shown = scenes(200)
    model = init_model(CONFIGS / f'maskclip_{tower}.py', device='cpu')
    names, rng = [*LABELS, *COMPOUNDS], np.random.default_rng(0)
    rng.shuffle(names)
    proposed = propose_words(model, images, names).shares
    precision, recall = figures(f'miniature-{tower}, 14 of {len(names)}', proposed, LABELS)
    assert precision >= 0.8 and recall >= 0.8
    some = []
    for _ in range(3):
        kept = np.flatnonzero(~shown[:, rng.permutation(14)[:6]].any(axis=1))
        truth = [LABELS[i] for i in np.flatnonzero(shown[kept].any(axis=0))]
        proposed = propose_words(model, [images[i] for i in kept], names).shares
        some.append(figures(f'  {len(truth)} words in {len(kept)} photos', proposed, truth))
    assert np.mean(some, axis=0).min() >= 0.6


def test_classes_of_real_photos_hidden_among_names(mini, monkeypatch):
    """VOC's classes among the 59 names whose text rows there are."""
    monkeypatch.chdir(ROOT)
    root = mini / 'voc20_mini'
    names = (root / 'ImageSets/Segmentation/val.txt').read_text().split()[::3]
    masks = [np.asarray(Image.open(root / f'SegmentationClass/{name}.png')) for name in names]
    shares = np.array([np.bincount(m.ravel(), minlength=256)[1:21] / m.size for m in masks])
    model = init_model('tests/configs/real_photos_context_base.py', device='cpu')
    labels = (mini / 'text_voc20.names.txt').read_text().split()
    labels = [dict(diningtable='table').get(label, label) for label in labels]
    truth = [labels[i] for i in np.flatnonzero((shares > 0.005).any(axis=0))]
    found = propose_words(model, [root / f'JPEGImages/{name}.jpg' for name in names])
    assert (found.photos, found.names) == (50, 59)
    proposed = [line.partition(':')[0] for line in found.shares]
    precision, recall = figures(f'{len(truth)} of VOC among 59', proposed, truth)
    assert precision >= 0.8 and recall >= 0.5


# The list, the photos, the command


def test_the_default_list(model, tiny_config):
    images, _ = scenes(3)
    assert propose_words(model, images).names == 14  # it cannot read 'accordion'
    tiny_config.write_text(re.sub(r"dict\(file='[^']*'\)", 'dict()', tiny_config.read_text()))
    assert propose_words(init_model(tiny_config, device='cpu'), images).names == 459


def test_500_photos_are_enough(model, monkeypatch):
    monkeypatch.setattr('mmseg.apis.propose.MOST', 4)
    images, _ = scenes(9)
    found = propose_words(model, images, LABELS)
    assert found == propose_words(model, [images[i] for i in (0, 2, 4, 6)], LABELS)


def test_segment_with_proposed_words(tmp_path, capsys):
    """The words are printed with their shares before anything is labelled."""
    (tmp_path / 'my photos').mkdir()
    images, _ = scenes(8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / 'my photos' / f'photo {i}.png')
    (tmp_path / 'my photos' / 'bad.jpg').write_text('no photo')
    config = ['--config', CONFIGS / 'maskclip_rn.py', '--device', 'cpu']
    assert run(run_words, tmp_path / 'my photos', *config) == 0
    printed = capsys.readouterr()
    assert 'skipped: ' in printed.err and 'of 14 names, by their shares of 8 photos' in printed.out
    line = printed.out.splitlines()[-1]
    out = tmp_path / 'out'
    auto = ['--classes', 'auto', '--out', out]
    assert run(run_segment, tmp_path / 'my photos', *config, *auto) == 1  # the bad one is named
    assert line in capsys.readouterr().out
    words = {name.split(':')[0] for name in line.split('"')[1].split(', ')}
    results = json.loads((out / 'results.json').read_text())
    assert len(results) == 8
    assert {name for photo in results.values() for name in photo} <= words


def test_what_has_no_words(model, tmp_path, monkeypatch):
    with pytest.raises(UserError, match='never learned the words wall'):
        propose_words(model, scenes(1)[0], 'ade20k')
    with pytest.raises(UserError, match='top must be a whole number of at least 1, not 0'):
        propose_words(model, scenes(1)[0], top=0)
    monkeypatch.setattr(model, 'is_student', True)
    with pytest.raises(UserError, match='a student knows its own classes only'):
        propose_words(model, scenes(1)[0])
    monkeypatch.undo()
    (tmp_path / 'a.png').touch()
    with pytest.raises(UserError, match='no photo could be read'):
        propose_words(model, [tmp_path / 'a.png'])
    (tmp_path / 'a.mp4').write_bytes(b'....ftyp')
    with pytest.raises(UserError, match='--classes auto proposes words for photos'):
        segment_source(tmp_path / 'a.mp4', tmp_path / 'out', classes='auto')
