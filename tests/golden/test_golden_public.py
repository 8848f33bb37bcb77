"""The recorded outputs that travel with the code: the original on a rendered picture.

Weights and text rows are made up by `tests/data/golden_public/hashed_weights.py`. The tests are
those of test_golden.py and test_golden_plus.py, whose larger data lie outside the repository.
"""

import pytest
import test_golden
import test_golden_plus
from conftest import ROOT, SHARED, load_module, save_hashed_clips

PUBLIC = ROOT / 'tests' / 'data' / 'golden_public'
LARGE = pytest.mark.skipif(
    (SHARED / 'golden').is_dir(), reason='test_golden_plus.py has a larger picture for this student'
)
STUDENTS = [
    ('segformer_b0', 'vit16'),
    pytest.param('segformer_b5', 'rn50', marks=LARGE),
    pytest.param('dlv2', 'vit16', marks=LARGE),
]

build = test_golden.build
build_student = test_golden_plus.build
batch = test_golden_plus.batch
resized = test_golden_plus.photo
test_pipeline_gives_the_originals_pixels = test_golden.test_pipeline_gives_the_originals_pixels
test_maskclip_scores_thresholds_and_labels = test_golden.test_maskclip_scores_thresholds_and_labels
test_class_weight = test_golden.test_class_weight
test_labels = test_golden.test_labels
test_metric = test_golden.test_metric


@pytest.fixture(scope='module')
def golden():
    return PUBLIC


@pytest.fixture(scope='module')
def hashed():
    return load_module(PUBLIC / 'hashed_weights.py')


@pytest.fixture(scope='module')
def hashed_clip(hashed, tmp_path_factory):
    return save_hashed_clips(PUBLIC, hashed, tmp_path_factory.mktemp('public_clip'))


@pytest.fixture(scope='module')
def photo():
    return test_golden.load_photo(ROOT / 'demo' / 'scenes' / 'wide.png')


@pytest.mark.parametrize('student, teacher', STUDENTS)
def test_student_at_test(golden, resized, build_student, student, teacher):
    arguments = golden, resized, None, build_student, student, teacher, None
    test_golden_plus.test_student_at_test(*arguments)


@pytest.mark.parametrize('student, teacher', STUDENTS)
def test_student_in_training(golden, build_student, batch, student, teacher):
    test_golden_plus.test_training_pass_and_step(
        golden, build_student, batch, student, teacher, 'eval', None
    )
