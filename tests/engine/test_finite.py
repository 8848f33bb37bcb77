"""NaN and Inf are no results: settings that overflow, and scores that did."""

from types import SimpleNamespace

import pytest
import torch
from conftest import TINY, run_script
from safetensors.torch import save_file

from mmseg.apis import init_model, segment
from mmseg.apis.export import _agreement
from mmseg.apis.words import Words
from mmseg.clip import load_clip
from mmseg.clip.readout import readout_of
from mmseg.engine.train_hooks import NonFiniteLossHook
from mmseg.errors import UserError
from mmseg.models.class_weight import ClassWeight
from mmseg.models.postprocess import Scoring
from mmseg.utils.tensors import channel_statistics

TAU_RANGE, SCALE_RANGE = r'from 0\.0001 to 10000\.0', r'from 0\.0001 to 1000000\.0'


@pytest.mark.parametrize(
    'make, message',
    [
        (
            lambda: ClassWeight(torch.eye(3), tau=1e-300),
            f'tau must be a number {TAU_RANGE} or None, not 1e-300',
        ),
        (
            lambda: ClassWeight(torch.eye(3), tau=1e300),
            rf'tau must be a number {TAU_RANGE} or None, not 1e\+300',
        ),
        (
            lambda: ClassWeight(torch.eye(3), tau=torch.nan),
            f'tau must be a number {TAU_RANGE} or None, not nan',
        ),
        (
            lambda: ClassWeight(
                torch.eye(3), tau=1.0, mean_similarity=torch.tensor([0, torch.nan, 0])
            ),
            'class_weight.mean_similarity is with NaN or Inf in it',
        ),
        (
            lambda: Scoring(scale=1e300),
            rf'scoring.scale must be a number {SCALE_RANGE} or None, not 1e\+300',
        ),
        (
            lambda: Scoring(scale=1e-300),
            f'scoring.scale must be a number {SCALE_RANGE} or None, not 1e-300',
        ),
        (
            lambda: readout_of(dict(terms='q-k', gaussian=1e-300)),
            r'readout.gaussian must be a number from 0\.001 to 1000000 or None, not 1e-300',
        ),
        (
            lambda: readout_of(dict(preset='gem', self_self=dict(temperature=1e-300))),
            r'self_self.temperature must be a number from 0\.001 to 1000000 or None, not 1e-300',
        ),
        (
            lambda: readout_of(dict(preset='scclip', gain=1e300)),
            r'readout.gain must be a number from -1000000 to 1000000, not 1e\+300',
        ),
        (
            lambda: readout_of(dict(preset='resclip', feedback=dict(scale=1e300))),
            r'readout.feedback.scale must be a number from 0 to 1000000, not 1e\+300',
        ),
        (
            lambda: channel_statistics((0.5, 0.5, 0.5), (0.2, 0.0, 0.2)),
            r'std must be a list of 3: each a number from 0\.001 to 10, not \(0.2, 0.0, 0.2\)',
        ),
        (
            lambda: channel_statistics((0.5, torch.nan, 0.5), (0.2, 0.2, 0.2)),
            r'mean must be a list of 3: each a number from -10 to 10, not \(0.5, nan, 0.5\)',
        ),
        (
            lambda: channel_statistics((0.5, 0.5), (0.2, 0.2)),
            r'mean must be a list of 3: each a number from -10 to 10, not \(0.5, 0.5\)',
        ),
    ],
)
def test_settings_that_overflow_are_refused_with_their_range(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_the_ends_of_the_ranges_stay_finite():
    text = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    for tau in (1e-4, 1e4):
        for kind in (torch.float32, torch.float16):
            assert ClassWeight(text, tau=tau)(text.to(kind)).isfinite().all()
    for scale in (1e-4, 1e6):
        assert (
            Scoring(scale=scale)
            .confidence(torch.zeros(2, 2), torch.randn(3, 2, 2))
            .isfinite()
            .all()
        )


@pytest.fixture
def overflowing(tiny_config, tmp_path):
    """A config whose weights are finite, and whose scores are not."""
    clip = load_clip(TINY['vit'], 'random').model.state_dict()
    clip['visual.conv1.weight'] = torch.full_like(clip['visual.conv1.weight'], 3e38)
    save_file(clip, tmp_path / 'clip.safetensors')
    text = tiny_config.read_text().replace("'random'", f"'{tmp_path}/clip.safetensors'")
    tiny_config.write_text(text)
    return tiny_config


@pytest.mark.parametrize(
    'tool, options',
    [
        ('test', ['--eval', 'mIoU', '--work-dir', 'out']),
        ('test', ['--out', 'labels', '--work-dir', 'out']),
        ('pseudo_label', ['PHOTOS', '--out', 'labels', '--device', 'cpu']),
    ],
)
def test_scores_that_are_no_numbers_end_a_tool(
    tool, options, overflowing, photos, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    photo = str(photos / 'JPEGImages')
    options = [photo if option == 'PHOTOS' else option for option in options]
    assert run_script(tool, overflowing, *options) == 1
    told = capsys.readouterr()
    last = told.err.strip().splitlines()[-1]
    assert last.startswith('error: ') and 'are NaN or infinite' in last
    assert 'mIoU' not in told.out and not list(tmp_path.glob('labels/*.png'))


def test_scores_that_are_no_numbers_end_segment_and_export(overflowing, photos):
    model = init_model(overflowing, device='cpu')
    with pytest.raises(UserError, match='are NaN or infinite'):
        segment(model, photos / 'JPEGImages' / 'p0.jpg')
    with pytest.raises(UserError, match='are NaN or infinite'):
        _agreement(model.network(Words(model.vocabulary)), None, (1, 32, 32))


def test_trained_weights_that_are_no_numbers_are_not_saved():
    """After the last step no loss is left to tell."""
    state = {'w': torch.ones(2), 'b': torch.tensor([0.0, torch.inf])}
    with pytest.raises(UserError, match='after iteration 8, the student has b with NaN or Inf'):
        NonFiniteLossHook().before_save_checkpoint(SimpleNamespace(iter=8), dict(state_dict=state))
