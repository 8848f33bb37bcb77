from collections import defaultdict

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import nn

from .data_preprocessor import SegDataPreprocessor
from .postprocess import Scoring, confidence, photo_matrices, resize
from .windows import Windows, mean_on_grid, photo_window_matrices, window_scores


class Segmentor(BaseModel):
    """Photos of any size in, label maps at photo size out; `scores` is what a subclass adds.

    Args:
        prior_crop: what the class weight looks at: 'clip' (CLIP's 224 crop of the photo, from the
            data set), 'image' (the very input that is segmented), or None without a class weight.
        score_stride: pixels of the input per cell of the scores; None where the scores' grid spans
            the input whatever its size.
        resize_twice: scores go through the input's size to the photo's, as in the original (Q15).
        windows: a Windows or its settings, or None for the whole input in one piece.
        scoring: a Scoring; by default every query is a class and nothing has a threshold.
        post: modules that refine in this order at the photo's size: what acts on 'scores', then
            what acts on 'labels'.
    """

    def __init__(
        self,
        *,
        prior_crop=None,
        score_stride=None,
        resize_twice=False,
        windows=None,
        scoring=None,
        post=(),
    ):
        super().__init__(data_preprocessor=SegDataPreprocessor())
        self.prior_crop, self.score_stride = prior_crop, score_stride
        self.resize_twice = resize_twice
        windows = Windows(**windows) if isinstance(windows, dict) else windows
        self.windows = self.with_patches(windows)
        self.scoring = scoring or Scoring(scale=1.0)
        self.post = nn.ModuleList(post)

    def forward(self, inputs, data_samples=None, mode='tensor', **context):
        """[(3, H, W) uint8] -> samples with labels, {name: loss} or a list of scores."""
        if mode == 'loss':
            return self.loss(inputs, data_samples, **context)
        found = self.query_logits_of_samples(inputs, data_samples)
        grids = [self.to_input_grid(maps, image.shape[1:]) for maps, image in zip(found, inputs)]
        if mode == 'tensor':
            return grids
        for sample, maps, grid, image in zip(data_samples, found, grids, inputs):
            sample.seg_logits = grid
            sample.pred_sem_seg = self.labels(maps, sample.ori_shape, image)
        return data_samples

    def query_logits_of_samples(self, images, samples=None):
        """[(3, H, W)] and their samples, which hold views -> [(Q, m, n)]: see `query_logits`."""
        clip = self.prior_crop == 'clip'
        return self.query_logits(
            images, [sample.prior_crop for sample in samples] if clip else None
        )

    def query_logits(self, images, views=None, windows=None):
        """[(3, H, W)], [(3, S, S)] or None -> [(Q, m, n)]: what `labels` and `to_input_grid` read.

        These are scores of queries (prompts) on the grid of the input, or, with windows, on those
        of all its windows side by side. Inputs of equal shape share a pass, windows of equal shape
        too; no result depends on the batch.

        Args:
            windows: in place of the model's own.

        Raises:
            UserError: windows smaller than a patch.
        """
        windows = self.with_patches(windows or self.windows)
        groups = defaultdict(list)
        for i, image in enumerate(images):
            groups[image.shape].append(i)
        if windows is None:
            return self._each(groups, images, views, self.queries)
        seen = self._each(groups, images, views, self.image_context)
        return window_scores(self.window_logits, self.refined, images, seen, windows)

    def with_patches(self, windows):
        """Windows or None -> the same; a UserError where they hold no patch of the network"""
        if windows is not None:
            windows.require_patch(self.score_stride or 1)
        return windows

    def _each(self, groups, images, views, run):
        """`run` on batches of equal shape -> a result for each photo; None where it gives none."""
        found = [None] * len(images)
        for members in groups.values():
            batch = torch.stack([images[i] for i in members])
            view = None if views is None else torch.stack([views[i] for i in members])
            results = run(batch, view)
            if results is None:
                return None
            for i, result in zip(members, results):
                found[i] = result
        return found

    def to_input_grid(self, maps, input_size, windows=None):
        """(Q, m, n) of `query_logits` -> (C, h, w): class scores on the grid of the input"""
        windows = windows or self.windows
        if windows is not None:
            maps = mean_on_grid(
                maps, input_size=input_size, stride=self.score_stride, windows=windows
            )
        return self.scoring.by_class(maps)

    def labels(self, maps, photo_size, image, windows=None):
        """(Q, m, n) of `query_logits` -> (H, W) labels at the photo's size, post-processed.

        Args:
            image: (3, H, W), the input itself; or its size, where no post-processing looks at it.
            windows: in place of the model's own; those that the maps were made with.
        """
        return self._decide(*self._at_photo(maps, photo_size, image, windows), photo_size, image)

    def labels_and_confidence(self, maps, photo_size, image, windows=None):
        """As `labels` -> (H, W) labels, (H, W) float32: the probability of each pixel's own label.

        It is read off the scores that the labels come from, so behind PAMR off the refined ones.
        Where a threshold or a superpixel chose another label than the best, it is that label's.
        """
        placed = self._at_photo(maps, photo_size, image, windows)
        labels = self._decide(*placed, photo_size, image)
        return labels, confidence(self.scoring, labels, placed[0], *placed[1])

    def _at_photo(self, maps, photo_size, image, windows):
        """-> maps and what resizes them to the photo; or refined maps of its size, and ()"""
        if len(self.post) and not torch.is_tensor(image):
            raise TypeError('post-processing looks at the input itself, not at its size')
        size = tuple(image.shape[1:]) if torch.is_tensor(image) else tuple(image)
        matrices = self._matrices(maps, photo_size, size, windows or self.windows)
        refiners = [part for part in self.post if part.acts_on == 'scores']
        if refiners:
            maps, matrices = resize(maps, *matrices), ()
            guide = _resized(self.normalised(image), photo_size)
            for part in refiners:
                maps = part(maps[None], guide)[0]
        return maps, matrices

    def _decide(self, maps, matrices, photo_size, image):
        """What `_at_photo` gave -> (H, W) labels"""
        labels = self.scoring.labels(maps, *matrices)
        for part in self.post:
            if part.acts_on == 'labels':
                labels = part(labels, _resized(image, photo_size)[0])
        return labels

    def _matrices(self, maps, photo_size, input_size, windows):
        common = dict(input_size=input_size, stride=self.score_stride)
        if windows is None:
            return photo_matrices(maps, photo_size, **common, twice=self.resize_twice)
        return photo_window_matrices(maps, photo_size, **common, windows=windows)

    def scores(self, image, view=None):
        """(N, 3, H, W) RGB in 0..255, (N, 3, 224, 224) for a view -> (N, C, h, w)"""
        raise NotImplementedError

    def queries(self, image, view=None):
        """As `scores`, of queries -> (N, Q, h, w)"""
        return self.scores(image, view)

    def image_context(self, image, view):
        """What the windows of a photo share -> (N, ...) or None; the views by default."""
        return view

    def window_logits(self, image, seen):
        """(N, 3, h, w) windows, their rows of `image_context` ->
        (N, Q, h', w'), what `refined` needs
        """
        return self.queries(image, seen), None

    def refined(self, scores, keys):
        """What `window_logits` gave of all windows of a photo -> (W, Q, h', w') scores"""
        return scores

    def normalised(self, image):
        """(3, H, W) in 0..255 -> (3, H, W) float, as post-processing of scores sees it"""
        return image.float() / 255

    def loss(self, images, samples, **context):
        """[(3, H, W) uint8], samples with gt_sem_seg -> {name: loss or figure}"""
        raise NotImplementedError(f'{type(self).__name__} has nothing to train')


def _resized(image, size):
    """(3, h, w), (H, W) -> (1, 3, H, W) float"""
    return F.interpolate(image[None].float(), size, mode='bilinear', align_corners=False)
