from pathlib import Path

import numpy as np
from PIL import Image

from mmseg.registry import DATASETS, TRANSFORMS

from ..base import PhotoDataset
from ..transforms.loading import crop_for_prior
from .world import caption, render


@DATASETS.register_module()
class MiniatureDataset(PhotoDataset):
    """Scenes of the miniature world, drawn when they are asked for; there are no files.

    Args:
        scenes: how many there are.
        world: seed of the scenes; another number is another split.
        size: pixels of a side.
        typical: share of things in their shape's own colour.
        kwargs: see `PhotoDataset`.
    """

    def __init__(self, vocabulary='miniature', *, scenes, world=0, size=64, typical=0.7, **kwargs):
        self.scenes, self.world = scenes, world
        self.size, self.typical = size, typical
        super().__init__(vocabulary, data_root='miniature', **kwargs)

    def load_data_list(self):
        """-> one `PhotoDataset.row` a scene, whose path is a name and nothing more"""
        return [self.row(f'miniature/{self.world}/{i:05d}.png', None) for i in range(self.scenes)]

    def get_data_info(self, index):
        """A row, and what draws its scene (rows by themselves are plain, for worker processes)."""
        return dict(super().get_data_info(index), draw=self.draw)

    def draw(self, path):
        """The name of a scene -> Scene"""
        rng = np.random.default_rng((self.world, int(Path(path).stem)))
        return render(rng, self.size, typical=self.typical)

    def read(self, path):
        """The name of a scene -> PIL RGB image"""
        return Image.fromarray(self.draw(path).image)

    def size_of(self, index):
        """-> (H, W), the same for all"""
        return self.size, self.size


@TRANSFORMS.register_module()
class RenderScene:
    """The scene's img (S, S, 3) uint8 RGB and ori_shape; gt_sem_seg, caption and view as asked.

    Args:
        masks: give `gt_sem_seg` (S, S) uint8.
        captions: give `caption`, another one each time.
    """

    def __init__(self, masks=True, captions=False):
        self.masks, self.captions = masks, captions

    def __call__(self, results):
        scene = results['draw'](results['img_path'])
        results['img'], results['ori_shape'] = scene.image, scene.image.shape[:2]
        if self.masks:
            results['gt_sem_seg'] = scene.mask
        if self.captions:
            results['caption'] = caption(results['rng'], scene)
        if results.get('prior_crop_size'):
            results['prior_crop'] = crop_for_prior(
                Image.fromarray(scene.image), results['prior_crop_size']
            )
        return results
