"""Sliding windows: batched equals one by one, and the two matrices equal a plain accumulation."""

import pytest
import torch
import torch.nn.functional as F

from mmseg.clip import CLIPDenseExtractor
from mmseg.errors import UserError
from mmseg.models import ClassWeight, MaskClip, MaskClipHead, TextClassifier, Windows, key_smooth
from mmseg.models.resize import photo_matrices, resize, tiled_logits
from mmseg.structures import SegDataSample


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.manual_seed(seed))


def photo(height, width, seed=0):
    return torch.randint(0, 256, (3, height, width), generator=torch.manual_seed(seed)).byte()


def sample(size=(90, 100)):
    return SegDataSample(metainfo=dict(ori_shape=size))


def starts(pixels, size, stride):
    return Windows(size, stride).starts(pixels)


@pytest.fixture
def build(tiny_clip):
    """Options -> a MaskClip of a random tower of patches of 16 and five classes."""
    clip = tiny_clip('vit')
    extractor = CLIPDenseExtractor(clip.model.visual, mean=clip.mean, std=clip.std)
    text = F.normalize(random(5, 32), dim=1)

    def make(weight=None, head=None, **options):
        head = MaskClipHead(TextClassifier(text, normalize=True), **(head or {}))
        return MaskClip(extractor, head, weight, **options)

    make.text = text
    return make


@pytest.mark.parametrize(
    'size, window, stride, expected',
    [(10, 4, 3, [0, 3, 6]), (3, 4, 3, [0]), (9, 4, 4, [0, 4, 5]), (448, 224, 112, [0, 112, 224])],
)
def test_starts(size, window, stride, expected):
    assert starts(size, window, stride) == expected
    n = max(size - window + stride - 1, 0) // stride + 1  # the peers' rule
    assert expected == [max(min(i * stride + window, size) - window, 0) for i in range(n)]


def accumulated(model, image, windows, photo_size):
    """The peers' way: windows one by one, each at its pixels' size, sum over count, resized."""
    height, width = image.shape[1:]
    total, count = torch.zeros(1, 5, height, width), torch.zeros(height, width)
    for top in starts(height, windows.size, windows.stride):
        for left in starts(width, windows.size, windows.stride):
            here = (
                slice(top, min(top + windows.size, height)),
                slice(left, min(left + windows.size, width)),
            )
            piece = image[(slice(None), *here)]
            scores = model.scores(piece[None])
            padded = [16 * cells for cells in scores.shape[2:]]
            scores = F.interpolate(scores, padded, mode='bilinear', align_corners=False)
            scores = scores[..., : piece.shape[1], : piece.shape[2]]
            total[(slice(None), slice(None), *here)] += scores
            count[here] += 1
    assert count.min() > 0
    return F.interpolate(total / count, photo_size, mode='bilinear', align_corners=False)[0]


@pytest.mark.parametrize(
    'shape, windows',
    [
        ((64, 96), Windows(48, 16)),  # on patches
        ((64, 96), Windows(64, 32, batch=1)),
        ((70, 90), Windows(45, 19)),  # on none: every window is padded
        ((40, 90), Windows(64, 50)),  # lower than a window
        ((33, 35), Windows(64, 64)),  # one window
    ],
)
def test_two_matrices_equal_sum_over_count(build, shape, windows):
    model, image = build(), photo(*shape)
    (maps,) = model.query_logits([image], windows=windows)
    matrices = photo_matrices(maps, (90, 100), input_size=shape, stride=16, windows=windows)
    expected = accumulated(model, image, windows, (90, 100))
    torch.testing.assert_close(resize(maps, *matrices), expected, rtol=0, atol=1e-5)
    labels = model.labels(maps, (90, 100), image, windows)
    assert (labels == expected.argmax(dim=0)).float().mean() > 0.999


def test_photos_share_passes_and_none_sees_another(build):
    images = [photo(64, 96, 0), photo(96, 64, 1), photo(64, 96, 2), photo(40, 70, 3)]
    model = build(windows=Windows(64, 32, batch=5))
    together = model(images, [sample() for _ in images], mode='predict')
    model.windows = Windows(64, 32, batch=1)
    for image, found in zip(images, together):
        (alone,) = model([image], [sample()], mode='predict')
        torch.testing.assert_close(alone.seg_logits, found.seg_logits, rtol=0, atol=1e-5)
        assert (alone.pred_sem_seg == found.pred_sem_seg).float().mean() > 0.999


@pytest.mark.parametrize('smoothed', [0.0, 0.9])
def test_prompt_denoising_judges_the_photo_not_its_windows(build, smoothed):
    """A class whose best probability in all windows is low is absent from each, and no other.

    The referee works on every window's cosines and keys, one window at a time.
    """
    images = [photo(64, 96, 3), photo(40, 96, 4), photo(64, 96, 5)]
    windows, threshold = Windows(32, 16, batch=5), 0.9
    weight = ClassWeight(build.text, crop='image', tau=0.5)
    plain, absent_somewhere = build(weight), 0
    model = build(weight, dict(pd_thresh=threshold, ks_thresh=smoothed), windows=windows)
    for image, found in zip(images, model.query_logits(images)):
        corners = [
            (top, left) for top in starts(image.shape[1], 32, 16) for left in range(0, 65, 16)
        ]
        pieces = [image[None, :, top : top + 32, left : left + 32] for top, left in corners]
        embedding = plain.backbone.embed(image[None])
        dense = [plain.backbone(piece, plain.decode_head.conv_seg) for piece in pieces]
        cosines = [plain.decode_head(features.patches) for features in dense]
        cosines = [plain.class_weight.reweight(one, embedding) for one in cosines]
        best = torch.stack([(100 * c).softmax(dim=1).amax(dim=(0, 2, 3)) for c in cosines])
        absent = best.amax(dim=0) < threshold
        assert not absent.all()
        absent_somewhere += ((best < threshold) & ~absent).any().item()
        expected = []
        for scores, features in zip(cosines, dense):
            scores = scores.masked_fill(absent[None, :, None, None], -100)
            expected.append(key_smooth(scores, features.keys, threshold=smoothed)[0])
        rows = [torch.cat(expected[i : i + 5], dim=2) for i in range(0, len(expected), 5)]
        torch.testing.assert_close(found, torch.cat(rows, dim=1), rtol=0, atol=1e-5)
    assert absent_somewhere > 0  # windows alone would have decided otherwise


def test_no_pass_is_larger_than_the_batch():
    passes = []

    def run(crops, seen):
        passes.append(len(crops))
        assert torch.equal(crops[:, :1, 0, 0], seen)  # every window with its own photo's
        return crops[:, :1, ::16, ::16], None

    images = [torch.full((3, 64, 96), float(i)) for i in range(3)]
    seen = [torch.tensor([float(i)]) for i in range(3)]
    windows = Windows(32, 16, batch=4)
    found = tiled_logits(run, lambda logits, _: logits, images, seen, windows)
    assert max(passes) == 4 and sum(passes) == 3 * 3 * 5 and len(passes) == 12
    assert all((maps == i).all() and maps.shape == (1, 6, 10) for i, maps in enumerate(found))


def test_scores_on_the_grid_are_the_mean_of_the_windows_cells(build):
    model, image, windows = build(), photo(64, 96), Windows(48, 16)
    (maps,) = model.query_logits([image], windows=windows)
    total, count = torch.zeros(5, 4, 6), torch.zeros(4, 6)
    for top in (0, 1):
        for left in range(4):
            piece = image[:, 16 * top : 16 * top + 48, 16 * left : 16 * left + 48]
            total[:, top : top + 3, left : left + 3] += model.scores(piece[None])[0]
            count[top : top + 3, left : left + 3] += 1
    found = model.to_input_grid(maps, (64, 96), windows)
    torch.testing.assert_close(found, total / count, rtol=0, atol=1e-5)


def test_the_prior_looks_at_the_whole_input_once(build):
    """With windows, too, the class weight's image is the photo."""
    weight = ClassWeight(build.text, crop='image', tau=0.05)
    image = photo(64, 96)
    weighted, plain = build(weight, windows=Windows(64, 64)), build(windows=Windows(64, 64))
    embedding = weighted.backbone.embed(image[None])
    found, bare = weighted.query_logits([image])[0], plain.query_logits([image])[0]
    torch.testing.assert_close(found, weight.reweight(bare[None], embedding)[0])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(size=0, stride=1), 'windows.size must be a whole number of at least 1'),
        (dict(size=224, stride=0), 'windows.stride must be a whole number of at least 1'),
        (dict(size=224, stride='half'), 'windows.stride must be a whole number of at least 1'),
        (dict(size=224, stride=225), 'stride 225 is larger than the window of 224'),
        (dict(size=224, stride=112, batch=0), 'windows.batch must be a whole number of at least 1'),
        (dict(size=15, stride=8), 'windows.size is 15 pixels, less than a patch of 16'),
    ],
)
def test_impossible_windows(build, options, message):
    with pytest.raises(UserError, match=message):
        build(windows=Windows(**options))


def test_windows_that_a_call_brings_hold_a_patch_too(build):
    with pytest.raises(UserError, match='windows.size is 15 pixels, less than a patch of 16'):
        build().query_logits([photo(64, 96)], windows=Windows(15, 8))


def test_a_student_has_windows_too():
    """A network whose grid spans its input, whatever its size: the mean at the input's size."""
    from mmseg.models import MaskClipPlus
    from mmseg.models.decode_heads import DecodeHead

    class Colours(DecodeHead):
        def forward_features(self, image):
            return F.avg_pool2d(image, 4)

    head = Colours(3, torch.nn.Identity(), dropout=0.0)
    options = dict(mean=(0, 0, 0), std=(1 / 255,) * 3, windows=Windows(32, 16))
    model, image = MaskClipPlus(torch.nn.Identity(), head, **options), photo(48, 64)
    total, count = torch.zeros(3, 48, 64), torch.zeros(48, 64)
    for top in (0, 16):
        for left in (0, 16, 32):
            piece = image[None, :, top : top + 32, left : left + 32].float()
            scores = F.interpolate(F.avg_pool2d(piece, 4), (32, 32), mode='bilinear')
            total[:, top : top + 32, left : left + 32] += scores[0]
            count[top : top + 32, left : left + 32] += 1
    (maps,) = model.query_logits([image])
    matrices = photo_matrices(
        maps, (48, 64), input_size=(48, 64), stride=None, windows=model.windows
    )
    torch.testing.assert_close(resize(maps, *matrices), total / count, rtol=0, atol=1e-3)
    assert model.to_input_grid(maps, (48, 64)).shape == (3, 6, 8)
