from pathlib import Path

from mmengine.dataset import BaseDataset

from mmseg.errors import UserError
from mmseg.registry import DATASETS
from mmseg.vocabularies import load_vocabulary

SUFFIXES = {'.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif'}


@DATASETS.register_module()
class ImageFolderDataset(BaseDataset):
    """Every photo of a folder and its subfolders, in the order of their paths, without labels.

    Args:
        vocabulary: name, file or list of classes.
        data_root: the folder, or one photo.
        clip_view: see `SegDataset`.
        pipeline: transforms; `LoadAnnotations` passes photos without masks through.

    Raises:
        UserError: no such folder, or no photo in it.
    """

    def __init__(self, vocabulary, data_root, *, clip_view=None, pipeline=(), **kwargs):
        self.vocabulary, self.clip_view = load_vocabulary(vocabulary), clip_view
        super().__init__(
            data_root=data_root,
            metainfo=self.vocabulary.metainfo,
            pipeline=list(pipeline),
            **kwargs,
        )

    def load_data_list(self):
        """-> [{'img_path', and what the transforms need of the data set}]"""
        root = Path(self.data_root)
        paths = [root] if root.is_file() else sorted(root.rglob('*'))
        photos = [path for path in paths if path.suffix.lower() in SUFFIXES]
        if not photos:
            what = 'no photo in' if root.exists() else 'no such folder:'
            raise UserError(
                f'{what} {root}; set data_root to a folder of photos '
                f'({", ".join(sorted(SUFFIXES))})'
            )
        return [
            dict(
                img_path=str(path),
                seg_map_path=None,
                num_classes=len(self.vocabulary),
                clip_view=self.clip_view,
            )
            for path in photos
        ]
