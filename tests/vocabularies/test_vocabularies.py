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
    assert words.palette == ((10, 11, 12), distinct_palette(2)[1])


def test_palette_is_vocs_and_never_repeats():
    assert distinct_palette(3) == ((128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert len(set(distinct_palette(600))) == 600


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
