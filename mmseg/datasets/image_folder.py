from pathlib import Path

from mmseg.errors import UserError
from mmseg.registry import DATASETS
from mmseg.utils.images import SUFFIXES

from .base import PhotoDataset


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
        return [self.row(path, None) for path in list_photos(self.data_root)]


def list_photos(root):
    """A folder, or one photo -> sorted paths of its photos, hidden ones left out.

    Raises:
        UserError: nothing there, or no photo in it.
    """
    root = Path(root)
    paths = [root] if root.is_file() else sorted(root.rglob('*'))
    photos = [
        path
        for path in paths
        if path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()
    ]
    if not photos:
        what = 'no photo in' if root.exists() else 'no such photo or folder:'
        raise UserError(
            f'{what} {root}; name a folder of photos, or one photo ({", ".join(sorted(SUFFIXES))})'
        )
    return photos
