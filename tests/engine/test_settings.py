"""Settings that would be accepted and mean nothing: refused where they arrive, with their range."""

import re
from functools import partial
from typing import Annotated

import pytest
from annotated_types import Interval
from torch.nn import Identity

from mmseg.datasets import LoadAnnotations, Resize, ResizeShortSide, SegDataset
from mmseg.datasets.transforms import PhotoMetricDistortion, RandomCrop, RandomFlip, RandomResize
from mmseg.errors import UserError
from mmseg.models import ClassWeight, MaskClipPlus, RobustLoss, build_class_weight, build_extractor
from mmseg.models.decode_heads import DecodeHead
from mmseg.utils import NotNegative, Positive, require_setting

STUDENT = partial(
    MaskClipPlus, Identity(), DecodeHead(3, Identity()), mean=(0.5,) * 3, std=(0.2,) * 3
)
WEIGHT = partial(build_class_weight, None, None, text={})
DATA = partial(SegDataset, ['cat'], 'data', img_dir='a', ann_dir='b', split='c')


@pytest.mark.parametrize(
    'build, settings, message',
    [
        (RandomFlip, dict(prob=2), 'RandomFlip.prob must be a number from 0 to 1, not 2'),
        (RandomCrop, dict(size=0), 'RandomCrop.size must be a whole number of at least 1, not 0'),
        (
            RandomCrop,
            dict(size=8, cat_max_ratio=2),
            'cat_max_ratio must be a number from 0 to 1, not',
        ),
        (
            RandomResize,
            dict(scale=(9, 9), ratio_range=(2, 1)),
            'ratio_range must be (low, high), not',
        ),
        (RandomResize, dict(scale=(9, 9), ratio_range=(0, 1)), 'each a number above 0, not (0, 1)'),
        (
            PhotoMetricDistortion,
            dict(contrast=(-1, 1)),
            'PhotoMetricDistortion.contrast must be a list of 2: each a number of at least 0, not',
        ),
        (PhotoMetricDistortion, dict(hue=0.5), 'hue must be a whole number from 0 to 180, not 0.5'),
        (Resize, dict(scale=(0, 0)), 'each a whole number of at least 1, not (0, 0)'),
        (Resize, dict(scale=(-5, 64)), 'each a whole number of at least 1, not (-5, 64)'),
        (Resize, dict(scale=520), 'Resize.scale must be a list of 2: each a whole'),
        (
            ResizeShortSide,
            dict(size=448, multiple=0),
            'multiple must be a whole number of at least 1, not 0',
        ),
        (
            LoadAnnotations,
            dict(suppress_labels='unsene'),
            "must be 'all', 'unseen', 'ignored' or a list, each item a whole number, not",
        ),
        (DATA, dict(reduce_zero_label='no'), "reduce_zero_label must be True or False, not 'no'"),
        (STUDENT, dict(conf_thresh=2), 'conf_thresh must be a number from 0 to 1, not 2'),
        (STUDENT, dict(self_thresh=3), 'self_thresh must be a number from 0 to 1 or None, not 3'),
        (STUDENT, dict(distill_weight=-1), 'distill_weight must be a number of at least 0, not -1'),
        (STUDENT, dict(ema_momentum=0), 'ema_momentum must be a number above 0 and of at most 1'),
        (lambda: STUDENT(None, None, []), {}, 'unseen = [] leaves a teacher no class to label'),
        (
            STUDENT,
            dict(start_self_train='x'),
            "start_self_train must be a list of 2: each a whole number, not 'x'",
        ),
        (STUDENT, dict(start_clip_guided=(0, 9)), 'is (first, last) step, counted from 1'),
        (STUDENT, dict(start_clip_guided=(9, 3)), 'is (first, last) step, counted from 1'),
        (
            build_extractor,
            dict(model='a', pretrained='b', norm_eps=0),
            'norm_eps must be a number from 1e-12 to 1 or None, not 0',
        ),
        (
            partial(ClassWeight, None, tau=1.0),
            dict(crop='all'),
            "ClassWeight.crop must be 'clip' or 'image', not 'all'",
        ),
        (WEIGHT, dict(crop_size=0), 'crop_size must be a whole number of at least 1, not 0'),
        (
            partial(RobustLoss, 3),
            dict(balance_most=-1),
            'balance_most must be a number above 0, not -1',
        ),
        (STUDENT, dict(loss_over='x'), "loss_over must be 'labelled' or 'all', not 'x'"),
    ],
    ids=lambda value: '-'.join(map(str, value)) if isinstance(value, dict) else None,
)
def test_a_setting_without_meaning_is_refused(build, settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        build(**settings)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), True, '1', None, 0.4, 3])
def test_what_is_no_number_in_the_range(value):
    message = f'x must be a number from 0.5 to 2, not {value!r}'
    with pytest.raises(UserError, match=re.escape(message)):
        require_setting('x', value, Annotated[float, Interval(ge=0.5, le=2)])


def test_a_number_that_no_float_holds_is_refused():
    with pytest.raises(UserError, match='x must be a number of at least 0, not 1000'):
        require_setting('x', 10**400, NotNegative)


def test_both_ends_are_in_the_range():
    for value in (0.5, 1, 2):
        require_setting('x', value, Annotated[float, Interval(ge=0.5, le=2)])
    require_setting('x', 1e-9, Positive)
    require_setting('x', False, bool)
    with pytest.raises(UserError):
        require_setting('x', 1, bool)
