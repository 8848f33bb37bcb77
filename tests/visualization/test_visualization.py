"""Pictures that can be read: names in their regions, legends, letters, small and large photos."""

import numpy as np

from mmseg.visualization import blend, legend, overlay_with_legend, panels, with_names
from mmseg.visualization.fonts import legible, size_for
from mmseg.visualization.overlay import _inside, enlarged
from mmseg.vocabularies import distinct_palette

PALETTE = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


def two_regions(height=240, width=320):
    """Class 0 on the left quarter, class 1 on the rest."""
    labels = np.ones((height, width), np.uint8)
    labels[:, : width // 4] = 0
    return labels


def test_a_name_lies_in_its_region():
    labels = two_regions()
    plain = blend(np.full((240, 320, 3), 128, np.uint8), labels, PALETTE)
    named = with_names(plain, labels, ('sky', 'a name that is far too long for a quarter', 'x'))
    changed = (named != plain).any(axis=2)
    assert changed[:, :80].any()  # 'sky' fits
    assert not changed[:, 80:].any()


def test_a_name_that_does_not_fit_is_left_out():
    assert _inside(np.ones((20, 20), bool), 30, 10) is None
    left, top = _inside(np.ones((40, 60), bool), 30, 10)
    assert 0 <= left <= 30 and 0 <= top <= 30
    ring = np.ones((60, 60), bool)
    ring[5:55, 5:55] = False
    assert _inside(ring, 20, 12) is None


def test_names_of_neighbours_do_not_overlap():
    left, _, right, _ = legible('mmmm', 13)[1].getbbox('mmmm', stroke_width=2)
    width = round(0.95 * (right - left))  # each name reaches into both neighbours
    labels = np.repeat(np.uint8([0, 1, 2, 0]), width)[None].repeat(200, axis=0)
    plain, long = np.zeros((*labels.shape, 3), np.uint8), 99 * 'x'
    first = with_names(plain, labels, (long, 'mmmm', long))
    assert first.any() and with_names(plain, labels, (long, long, 'mmmm')).any()
    assert np.array_equal(with_names(plain, labels, (long, 'mmmm', 'mmmm')), first)


def test_outlines_stand_between_regions():
    labels = two_regions()
    found = blend(np.zeros((240, 320, 3), np.uint8), labels, PALETTE)
    assert (found[:, 79] == 255).all() and (found[:, 78] == found[0, 0]).all()


def test_legend_is_ordered_by_area_and_may_be_cut():
    shares = {i: (i + 1) / 100 for i in range(60)}
    names, palette = [f'class {i}' for i in range(60)], distinct_palette(60)
    found = legend(shares, names, palette, height=100)
    line = round(1.7 * size_for(100, 100))
    assert tuple(found[8 + 3, 8 + 3]) == tuple(palette[59])  # the largest on top
    assert tuple(found[8 + line + 3, 8 + 3]) == tuple(palette[58])
    assert len(found) < 45 * line


def test_any_size_and_any_number_of_classes():
    for shape, classes in (((1, 1), 1), ((64, 64), 3), ((900, 700), 300)):
        labels = np.random.default_rng(0).integers(0, classes, shape).astype(np.int16)
        photo = np.zeros((*shape, 3), np.uint8)
        names, palette = [f'c{i}' for i in range(classes)], distinct_palette(classes)
        for picture in (
            overlay_with_legend(photo, labels, names, palette),
            panels(photo, labels, labels, names, palette),
        ):
            assert picture.dtype == np.uint8 and picture.shape[0] >= 192
    assert enlarged(np.zeros((64, 80, 3))).shape == (192, 240, 3)
    assert enlarged(np.zeros((500, 375, 3))).shape == (500, 375, 3)


def test_letters_grow_with_the_photo_and_every_script_is_legible():
    assert size_for(375, 500) == 13 and size_for(4000, 6000) == 136
    assert legible('собака', 20)[0] == 'собака'
    text, font = legible('\U0001f436', 20)
    assert text in ('\U0001f436', '\\U0001f436') and font.getlength(text) > 5


def test_tall_photos_are_tinted_to_the_last_row():
    photo, labels = np.full((700, 2, 3), 100, np.uint8), np.zeros((700, 2), np.uint8)
    labels[-1] = 255
    tinted = blend(photo, labels, [(200, 0, 100)], opacity=0.5)
    assert (tinted[:698] == (150, 50, 100)).all()
    assert (tinted[698] == 255).all(), 'no outline above the last row'
    assert (tinted[699] == (178, 178, 178)).all()
