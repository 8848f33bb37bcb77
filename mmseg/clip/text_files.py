"""Text embeddings in files: .pth, .npy or .safetensors of one (C, D) matrix."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import atomic_path
from mmseg.utils.checkpoint import read_file
from mmseg.vocabularies import Vocabulary


def read_text_embeddings(
    path: str | Path, vocabulary: Vocabulary, *, dim: int | None = None
) -> Tensor:
    """Read one (C, D) matrix from a .pth, .npy or .safetensors file, as float32 and unchanged.

    Args:
        vocabulary: gives C.
        dim: D of the image features, if known.

    Raises:
        UserError: the file is missing, is no single matrix, or has other rows or columns.
    """
    cure = 'make them with tools/embed_text.py'
    rows = _matrix_of(read_file(path, cure=cure))
    if rows is None:
        raise UserError(
            f'the text embeddings {path} are no single matrix of classes x width; {cure}'
        )
    if (rows == 0).all(dim=1).any():
        raise UserError(f'the text embeddings {path} hold rows that are zero; {cure}')
    if len(rows) != len(vocabulary):
        raise UserError(
            f'the text embeddings {path} have {len(rows)} rows, but the vocabulary '
            f'{vocabulary.name} has {len(vocabulary)} classes'
        )
    if dim is not None and rows.shape[1] != dim:
        raise UserError(
            f'the text embeddings {path} are {rows.shape[1]} wide, but the image tower '
            f'gives {dim}; they belong to another CLIP'
        )
    return rows.float()


def _matrix_of(content: Any) -> Tensor | None:
    """Find the one floating-point matrix that a file holds."""
    if isinstance(content, dict) and len(content) == 1:
        (content,) = content.values()
    is_matrix = torch.is_tensor(content) and content.ndim == 2 and content.is_floating_point()
    return content if is_matrix else None


def stored_text(path: str | Path) -> Tensor | None:
    """Read a (C, D) matrix that this project wrote; None if there is none, or it is damaged."""
    try:
        return _matrix_of(read_file(path))
    except UserError:
        return None


def write_text_embeddings(path: str | Path, rows: Tensor) -> None:
    """Write (C, D) atomically as .npy, .safetensors or .pth."""
    path = Path(path)
    with atomic_path(path) as temporary:
        if path.suffix == '.npy':
            np.save(temporary, rows.numpy())
        elif path.suffix == '.safetensors':
            save_file({'text': rows}, temporary)
        else:
            torch.save(rows, temporary)
