"""Checkpoints that appear whole, are read without running code, and tell when they are damaged."""

import pickle
import warnings
from pathlib import Path

import torch

from mmseg.errors import UserError


def read_checkpoint(path, map_location='cpu'):
    """A file that `SegRunner` wrote -> its content.

    Raises:
        UserError: it is missing, damaged, or holds more than a checkpoint of ours.
    """
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f'no checkpoint {path}') from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else 'cut short'
        raise UserError(
            f'the checkpoint {path} is damaged or not of this project ({reason})'
        ) from error


def newest_checkpoint(folder):
    """Folder -> its newest checkpoint that can be read, or None; a damaged one is passed over."""
    files = sorted(Path(folder).glob('iter_*.pth'), key=lambda path: int(path.stem[5:]))
    for path in reversed(files):
        try:
            read_checkpoint(path)
        except UserError as error:
            warnings.warn(f'{error}; the one before it is used', stacklevel=2)
        else:
            return path
    return None
