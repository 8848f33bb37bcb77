import warnings
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from mmseg.errors import UserError
from mmseg.utils import in_checkout
from mmseg.vocabularies import load_vocabulary

from .pseudo_labels import require_labels
from .transforms.loading import photo_size, read_photo


class PhotoDataset(BaseDataset):
    """What all data sets share: a vocabulary, CLIP's view, and draws that can be repeated.

    Args:
        vocabulary: name, file or list of classes.
        data_root: folder that other paths are relative to; see `in_checkout`.
        unseen: labels of the classes whose masks no training may see, or 'all'; None for none.
        pseudo_labels: folder of the labels that tools/pseudo_label.py wrote for these photos, read
            by `LoadPseudoLabels`; None for none.
        pseudo_confidence: refuse such labels without their confidence, which the training needs.
        prior_crop_size: also cut CLIP's view of this size (224) for a class weight; None for none.
        seed: of the random transforms.
        skip_bad: take the next photo where one cannot be read, and say so once for each.
        pipeline: transforms, as mmengine's BaseDataset takes them.
    """

    def __init__(
        self,
        vocabulary,
        data_root,
        *,
        unseen=None,
        prior_crop_size=None,
        pseudo_labels=None,
        pseudo_confidence=False,
        seed=0,
        skip_bad=False,
        pipeline=(),
        **kwargs,
    ):
        if not isinstance(data_root, (str, Path)):
            raise UserError(
                f'{type(self).__name__} needs data_root, a folder of photos; such as --cfg-options '
                f'test_dataloader.dataset.data_root=FOLDER; not {data_root!r}'
            )
        self.vocabulary, self.prior_crop_size = load_vocabulary(vocabulary), prior_crop_size
        self.pseudo_labels, self.seed, self.skip_bad = pseudo_labels, seed, skip_bad
        self.unseen = self.vocabulary.ids(unseen or ())
        super().__init__(
            data_root=in_checkout(data_root),
            metainfo=dict(**self.vocabulary.metainfo, unseen=self.unseen),
            pipeline=list(pipeline),
            **kwargs,
        )
        if pseudo_labels is not None:
            paths = (self.get_data_info(i)['pseudo_path'] for i in range(len(self)))
            require_labels(pseudo_labels, self.vocabulary, paths, confidence=pseudo_confidence)

    @property
    def photo_root(self):
        """The folder below which all photos lie; labels keep their places below another."""
        root = Path(self.data_root)
        return root.parent if root.is_file() else root

    def label_path(self, img_path, folder):
        """A photo's path -> that of its label PNG below the folder."""
        return Path(folder, Path(img_path).relative_to(self.photo_root)).with_suffix('.png')

    def __getitem__(self, index):
        """A photo's index, or (index, place in the stream of samples) -> what the pipeline makes.

        The place seeds the draws, so that a photo is augmented differently each time it comes, and
        equally in a run that was resumed.
        """
        index, place = index if isinstance(index, tuple) else (index, index)
        for step in range(len(self)):
            row = self.get_data_info((index + step) % len(self))
            row['rng'] = np.random.default_rng((self.seed, place))
            try:
                return self.pipeline(row)
            except UserError as error:
                if not self.skip_bad:
                    raise
                warnings.warn(f'skipped: {error}', stacklevel=2)
        raise UserError(f'none of the {len(self)} photos of {self.data_root} can be read')

    def read(self, path):
        """The path of a row -> PIL RGB image"""
        return read_photo(path)

    def size_of(self, index):
        """A photo's index -> (H, W), without reading its pixels"""
        return photo_size(self.get_data_info(index)['img_path'])

    def row(self, img_path, seg_map_path, **more):
        """What the transforms need to know of a photo."""
        if self.pseudo_labels is not None:
            more['pseudo_path'] = str(self.label_path(img_path, self.pseudo_labels))
        return dict(
            img_path=str(img_path),
            seg_map_path=None if seg_map_path is None else str(seg_map_path),
            num_classes=len(self.vocabulary),
            unseen=self.unseen,
            prior_crop_size=self.prior_crop_size,
            **more,
        )
