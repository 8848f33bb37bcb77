import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from mmengine.dataset import BaseDataset
from PIL import Image

from mmseg.errors import UserError
from mmseg.registry import DATASETS, TRANSFORMS
from mmseg.utils import Count, Seed, Settings, in_checkout, path_below, reason_of, validated
from mmseg.vocabularies import Vocabulary, load_vocabulary

from .pseudo_labels import require_labels
from .reading import list_photos, photo_size, read_photo

VocabularySource = str | Path | Sequence[str] | Vocabulary


class PhotoDataset(BaseDataset):
    """Base of all data sets: a vocabulary, the crop for the class weight, reproducible draws.

    Args:
        vocabulary: a name, a file, or a list of classes.
        data_root: the folder that other paths are relative to, see `in_checkout`. None (in a
            config that leaves it to the user) is refused.
        unseen: labels of the classes whose masks are hidden in training, or 'all'; None for none.
        prior_crop_size: also cut CLIP's crop of this size (224) for a class weight; None for no
            crop.
        pseudo_labels: folder of the labels that tools/pseudo_label.py wrote for these photos,
            read by `LoadPseudoLabels`; None for none.
        pseudo_confidence: also require the confidence maps.
        seed: of the random transforms.
        skip_bad: replace an unreadable photo by the next one, and warn.
        pipeline: transforms, as for mmengine's BaseDataset.
    """

    @validated
    def __init__(
        self,
        vocabulary: VocabularySource,
        data_root: str | Path | None,
        *,
        unseen: str | Sequence[str] | None = None,
        prior_crop_size: Count | None = None,
        pseudo_labels: str | Path | None = None,
        pseudo_confidence: bool = False,
        seed: Seed = 0,
        skip_bad: bool = False,
        pipeline: Sequence[Annotated[Settings, TRANSFORMS] | Callable[..., Any]] = (),
        **kwargs: Any,
    ) -> None:
        if data_root is None:
            raise UserError(
                f'{type(self).__name__} needs data_root, a folder of photos; such as --cfg-options '
                'test_dataloader.dataset.data_root=FOLDER; not None'
            )
        self.vocabulary = words = load_vocabulary(vocabulary)
        self.prior_crop_size = prior_crop_size
        self.pseudo_labels, self.seed, self.skip_bad = pseudo_labels, seed, skip_bad
        self.unseen = words.ids(unseen or ())
        super().__init__(
            data_root=in_checkout(data_root),
            metainfo=dict(classes=words.labels, palette=words.palette, unseen=self.unseen),
            pipeline=list(pipeline),
            **kwargs,
        )
        if pseudo_labels is not None:
            paths = [self.get_data_info(i)['pseudo_path'] for i in range(len(self))]
            require_labels(pseudo_labels, self.vocabulary, paths, confidence=pseudo_confidence)

    @property
    def photo_root(self) -> Path:
        """The folder that holds all photos. Label folders mirror its subfolders."""
        root = Path(self.data_root)
        return root.parent if root.is_file() else root

    def label_path(self, img_path: str | Path, folder: str | Path) -> Path:
        """Return the path of a photo's label PNG below `folder`."""
        return Path(folder, Path(img_path).relative_to(self.photo_root)).with_suffix('.png')

    def __getitem__(self, index: int | tuple[int, int]) -> Any:
        """Run the pipeline on one photo.

        Args:
            index: index of the photo, or (index, position in the stream of samples). The position
                seeds the random transforms: a photo is augmented differently each time it comes,
                and equally in a resumed run.
        """
        index, position = index if isinstance(index, tuple) else (index, index)
        for step in range(len(self)):
            row = self.get_data_info((index + step) % len(self))
            row['rng'] = np.random.default_rng((self.seed, position))
            try:
                return self.pipeline(row)
            except UserError as error:
                if not self.skip_bad:
                    raise
                warnings.warn(f'skipped: {error}', stacklevel=2)
        raise UserError(f'none of the {len(self)} photos of {self.data_root} can be read')

    def read(self, path: str) -> Image.Image:
        """Read the photo of a row's `img_path` as RGB."""
        return read_photo(path)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return (H, W) of a photo without decoding its pixels."""
        return photo_size(self.get_data_info(index)['img_path'])

    def row(
        self, img_path: str | Path, seg_map_path: str | Path | None, **fields: Any
    ) -> dict[str, Any]:
        """Collect the fields of one photo that transforms read."""
        if self.pseudo_labels is not None:
            fields['pseudo_path'] = str(self.label_path(img_path, self.pseudo_labels))
        return dict(
            img_path=str(img_path),
            seg_map_path=None if seg_map_path is None else str(seg_map_path),
            num_classes=len(self.vocabulary),
            unseen=self.unseen,
            prior_crop_size=self.prior_crop_size,
            **fields,
        )


@DATASETS.register_module()
class ImageFolderDataset(PhotoDataset):
    """All photos of a folder and its subfolders, sorted by path, without masks.

    Args:
        data_root: the folder, or one photo.
        listed: a text file with some of the photos, one path below the folder in a line; None for
            all of them.
        corrections: a folder of label PNGs made by hand, for any of the photos: `a/b.png` of the
            photo `a/b.jpg`. `LoadAnnotations` reads them.
        kwargs: see `PhotoDataset`.

    Raises:
        UserError: the folder does not exist or holds no photo, or a listed photo does not exist.
    """

    @validated
    def __init__(
        self,
        vocabulary: VocabularySource,
        data_root: str | Path | None,
        *,
        listed: str | Path | None = None,
        corrections: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        self.listed, self.corrections = listed, corrections
        super().__init__(vocabulary, data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return one `PhotoDataset.row` per photo."""
        photos = list_photos(self.data_root)
        if self.listed is not None:
            photos = _listed_photos(Path(self.listed), self.photo_root)
        return [self.row(path, self._correction(path)) for path in photos]

    def _correction(self, photo: Path) -> Path | None:
        if self.corrections is None:
            return None
        path = self.label_path(photo, self.corrections)
        return path if path.is_file() else None


def _listed_photos(path: Path, root: Path) -> list[Path]:
    try:
        names = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'the list {path} cannot be read: {reason_of(error)}') from error
    photos = [path_below(root, name, path) for name in names if name.strip()]
    absent = [str(photo) for photo in photos if not photo.is_file()]
    if absent or not photos:
        raise UserError(
            f'{path} names {len(absent)} photos that do not exist: {", ".join(absent[:3])}'
            if absent
            else f'{path} names no photo'
        )
    return photos
