from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmseg.registry import DATASETS, TRANSFORMS
from mmseg.utils import Count, validated

from ..base import PhotoDataset, VocabularySource
from ..reading import crop_for_prior
from .world import Scene, caption, render


@DATASETS.register_module()
class MiniatureDataset(PhotoDataset):
    """Scenes of the miniature world, rendered on access; there are no files.

    Args:
        scenes: number of scenes.
        world: seed of the scenes; another number gives another split.
        size: pixels of a side.
        keep: keep rendered scenes in memory, 16 kB each, for trainings that come back to them.
        kwargs: see `PhotoDataset`.
    """

    @validated
    def __init__(
        self,
        vocabulary: VocabularySource = 'miniature',
        *,
        scenes: Count,
        world: int = 0,
        size: Count = 64,
        keep: bool = False,
        **kwargs: Any,
    ) -> None:
        self.scenes, self.world, self.size = scenes, world, size
        self.keep, self.kept = keep, dict[int, Scene]()
        super().__init__(vocabulary, data_root='miniature', **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return one `PhotoDataset.row` per scene, whose path is only a name."""
        return [self.row(f'miniature/{self.world}/{i:05d}.png', None) for i in range(self.scenes)]

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Return a row and the method that renders its scene (stored rows hold plain values)."""
        return dict(super().get_data_info(index), draw=self.draw)

    def draw(self, path: str | Path) -> Scene:
        """Render the scene of that name."""
        number = int(Path(path).stem)
        if number not in self.kept:
            rng = np.random.default_rng((self.world, number))
            scene = render(rng, self.size)
            if not self.keep:
                return scene
            self.kept[number] = scene
        return self.kept[number]

    def read(self, path: str | Path) -> Image.Image:
        """Render the scene of that name as RGB."""
        return Image.fromarray(self.draw(path).image)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return (H, W), equal for all scenes."""
        return self.size, self.size


@TRANSFORMS.register_module()
class RenderScene:
    """Render the scene: img (S, S, 3) uint8 RGB and ori_shape, with the fields asked for.

    Args:
        masks: add `gt_sem_seg` (S, S) uint8.
        captions: add `caption`, drawn anew each time, and `named`, what it names.
    """

    @validated
    def __init__(self, masks: bool = True, captions: bool = False) -> None:
        self.masks, self.captions = masks, captions

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        scene = results['draw'](results['img_path'])
        results['img'], results['ori_shape'] = scene.image, scene.image.shape[:2]
        if self.masks:
            results['gt_sem_seg'] = scene.mask
        if self.captions:
            results['caption'], results['named'] = caption(results['rng'], scene)
        if results.get('prior_crop_size'):
            results['prior_crop'] = crop_for_prior(
                Image.fromarray(scene.image), results['prior_crop_size']
            )
        return results
