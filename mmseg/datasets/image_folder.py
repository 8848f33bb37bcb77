from pathlib import Path

from mmseg.errors import UserError
from mmseg.registry import DATASETS

from .base import PhotoDataset

SUFFIXES = {'.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif'}


@DATASETS.register_module()
class ImageFolderDataset(PhotoDataset):
    """Every photo of a folder and its subfolders, in the order of their paths, without labels.

    Args:
        data_root: the folder, or one photo.
        the others: see `PhotoDataset`.

    Raises:
        UserError: no such folder, or no photo in it.
    """

    def load_data_list(self):
        """-> one `PhotoDataset.row` a photo"""
        root = Path(self.data_root)
        paths = [root] if root.is_file() else sorted(root.rglob('*'))
        photos = [path for path in paths if path.suffix.lower() in SUFFIXES]
        if not photos:
            what = 'no photo in' if root.exists() else 'no such folder:'
            raise UserError(
                f'{what} {root}; set data_root to a folder of photos, or to one photo '
                f'({", ".join(sorted(SUFFIXES))})'
            )
        return [self.row(path, None) for path in photos]
