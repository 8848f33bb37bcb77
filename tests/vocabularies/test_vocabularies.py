import numpy as np
import pytest
from torchvision.models import _meta

from mmseg.errors import UserError
from mmseg.vocabularies import (
    TEMPLATES,
    distinct_palette,
    list_vocabularies,
    load_vocabulary,
    parse_vocabulary,
    resolve_templates,
)

LENGTHS = dict(
    pascal_context_59=59,
    pascal_context_60=60,
    pascal_context_459=459,
    miniature=14,
    voc_20=20,
    voc_21=21,
    cityscapes=19,
    ade20k=150,
    coco_stuff_171=171,
    coco_object_81=81,
    pascal_context_59_peers=59,
    pascal_context_60_peers=60,
    voc_20_peers=20,
    voc_21_peers=21,
    coco_object_81_peers=81,
    coco_stuff_171_peers=171,
    cityscapes_peers=19,
    ade20k_peers=150,
)
# Pascal Context's 59 classes among the 459 of the full release (1-based ids).
IN_459 = sorted(
    [
        2,
        259,
        260,
        415,
        324,
        9,
        258,
        144,
        18,
        19,
        22,
        23,
        397,
        25,
        284,
        158,
        159,
        416,
        33,
        162,
        420,
        454,
        295,
        296,
        427,
        44,
        45,
        46,
        308,
        59,
        440,
        445,
        31,
        232,
        65,
        354,
        424,
        68,
        326,
        72,
        458,
        34,
        207,
        80,
        355,
        85,
        347,
        220,
        349,
        360,
        98,
        187,
        104,
        105,
        366,
        189,
        368,
        113,
        115,
    ]
)


def test_lengths():
    assert {name: len(load_vocabulary(name)) for name in list_vocabularies()} == LENGTHS


def test_context_59_is_what_the_full_release_calls_so():
    full = load_vocabulary('pascal_context_459').labels
    assert tuple(full[i - 1] for i in IN_459) == load_vocabulary('pascal_context_59').labels
    assert (
        load_vocabulary('pascal_context_60').labels[1:]
        == load_vocabulary('pascal_context_59').labels
    )


def test_voc_and_coco_against_torchvision():
    assert load_vocabulary('voc_21').labels[1:] == tuple(_meta._VOC_CATEGORIES[1:])
    assert load_vocabulary('voc_20').labels == load_vocabulary('voc_21').labels[1:]
    things = [name for name in _meta._COCO_CATEGORIES[1:] if name != 'N/A']
    assert list(load_vocabulary('coco_stuff_171').labels[:80]) == things


@pytest.mark.parametrize(
    'name', ['pascal_context_59', 'pascal_context_60', 'voc_20', 'voc_21', 'coco_object_81']
)
def test_the_peers_words_name_the_same_classes(name):
    ours, theirs = load_vocabulary(name), load_vocabulary(f'{name}_peers')
    assert ours.labels == theirs.labels and ours.palette == theirs.palette
    queries, groups = theirs.by_prompt()
    assert groups == tuple(sorted(groups)) and len(set(groups)) == len(theirs)
    assert len(set(queries.prompts)) == len(queries)  # no word is of two classes


def test_the_peers_words():
    context = load_vocabulary('pascal_context_59_peers')
    assert context.prompts == tuple((label,) for label in context.labels)
    things = load_vocabulary('coco_object_81')
    assert things.labels == ('background', *load_vocabulary('coco_stuff_171').labels[:80])
    for name, words in (('voc_21_peers', 26), ('coco_object_81_peers', 25)):
        assert len(load_vocabulary(name).prompts[0]) == words


def test_what_clip_reads_differs_from_what_the_metric_prints():
    words = load_vocabulary('pascal_context_59')
    spoken = {
        label: prompts for label, prompts in zip(words.labels, words.prompts) if prompts != (label,)
    }
    assert spoken == dict(
        aeroplane=('airplane',), pottedplant=('potted plant',), tvmonitor=('tv monitor',)
    )


def test_templates():
    assert {name: len(resolve_templates(name)) for name in TEMPLATES} == dict(
        name=1, plain=1, imagenet80=80, miniature=8, maskclip85=85
    )
    assert 'there is a {} in the scene.' in resolve_templates('maskclip85')
    with pytest.raises(UserError, match="nearest: 'maskclip85'"):
        resolve_templates('maskclip58')
    with pytest.raises(UserError, match='exactly one'):
        resolve_templates(['a photo'])


def test_a_line_is_label_prompts_colour():
    words = parse_vocabulary(['puppy: dog | young dog  #0a0B0c', '', 'sky'], 'mine')
    assert words.labels == ('puppy', 'sky')
    assert words.prompts == (('dog', 'young dog'), ('sky',))
    assert words.palette == ((10, 11, 12), *distinct_palette(1, [(10, 11, 12)]))


def smallest_difference(palette):
    """The smallest CIEDE2000 of two colours."""
    color = pytest.importorskip('skimage.color')
    lab = color.rgb2lab(np.array(palette) / 255)
    return (color.deltaE_ciede2000(lab[:, None], lab[None]) + 999 * np.eye(len(lab))).min()


def test_each_colour_is_the_farthest_from_those_before():
    color = pytest.importorskip('skimage.color')
    steps = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing='ij'), axis=-1).reshape(-1, 3)
    lab = color.rgb2lab(grid / 255)
    inside = (lab[:, 0] > 30) & (lab[:, 0] < 85)
    grid, lab = grid[inside], lab[inside]
    palette = distinct_palette(48)
    distance = np.full(len(lab), np.inf)
    for i, colour in enumerate([(255, 255, 255), (0, 0, 0), (128, 128, 128), *palette]):
        if i >= 3:
            assert colour == tuple(grid[distance.argmax()])
        new = color.deltaE_ciede2000(lab, color.rgb2lab(np.array([colour]) / 255))
        distance = np.minimum(distance, new)
    assert smallest_difference(palette[:20]) > 21  # 4.5 of VOC's first 20
    assert smallest_difference(palette) > 13
    assert smallest_difference(load_vocabulary('miniature').palette) > 16


def test_colours_never_repeat_and_stay_away_from_those_taken():
    assert len(set(distinct_palette(600))) == 600
    taken = load_vocabulary('voc_21').palette
    first, *_ = apart = distinct_palette(600, taken)
    assert not {*taken} & {*apart} and len(set(apart)) == 600
    assert first == distinct_palette(1, taken)[0]
    assert (0, 0, 255) == distinct_palette(48, [(0, 0, 240)])[-1]  # the nearest comes last


@pytest.mark.parametrize(
    'source, message',
    [
        ([], 'names no class'),
        (['cat', 'dog', 'cat'], 'names twice: cat'),
        (['cat', 'dog | '], 'empty name'),
        (['cat', ' ', 'dog'], 'empty name at position 1'),
        ('voc20', "nearest: 'voc_20'"),
        ('nowhere.txt', 'readable text file'),
    ],
)
def test_bad_vocabularies(source, message):
    with pytest.raises(UserError, match=message):
        load_vocabulary(source)
