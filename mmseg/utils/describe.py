"""Words for error messages: what a file or weights are, the nearest right name."""

import difflib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAGIC = (
    (b'version https://git-lfs', 'a Git LFS pointer, not the file that it stands for'),
    (b'<!doctype html', 'a web page: a download that went wrong'),
    (b'<html', 'a web page: a download that went wrong'),
    (b'<?xml', 'an XML answer: a download that went wrong'),
    (b'\x89png', 'a PNG picture'),
    (b'\xff\xd8\xff', 'a JPEG picture'),
    (b'\x1f\x8b', 'a gzip archive'),
    (b'\x93numpy', 'a NumPy array'),
    (b'\x80', 'a pickle'),
    (b'{', 'JSON text'),
    (b'[', 'JSON text'),
)
# Networks, and what the names of their weights contain.
NETWORKS = (
    ('a MaskCLIP+ training checkpoint', ('decode_head.',)),
    ('a CLIP with both towers', ('visual.', 'token_embedding.')),
    ("a CLIP's image tower", ('visual.',)),
    ("a MiT in NVIDIA's names", ('patch_embed1.',)),
    ("a MiT in transformers' names", ('patch_embeddings.',)),
    ("a MiT in mmsegmentation's names", ('layers.0.0.projection.',)),
    ('a ResNet', ('layer1.', 'layer4.')),
    ('a vision transformer', ('blocks.0.', 'patch_embed.')),
)


def describe_file(path: str | Path) -> str:
    """Describe a file: 'a web page: a download that went wrong', 'a TorchScript archive', ..."""
    path = Path(path)
    with path.open('rb') as file:
        start = file.read(512).lower()
    if not start:
        return 'an empty file'
    if start.startswith(b'pk'):
        return _describe_zip(path)
    if start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < path.stat().st_size:
        return 'a safetensors file'
    if start[257:262] == b'ustar':
        return 'a tar archive'
    for magic, words in MAGIC:
        if start.lstrip().startswith(magic):
            return words
    return 'cut short, or a file of another kind'


def _describe_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # damage makes zipfile raise anything
        return 'a zip archive that is damaged or cut short'
    if any(name.endswith('/constants.pkl') for name in names):
        return 'a TorchScript archive'
    return 'a PyTorch file' if any(n.endswith('data.pkl') for n in names) else 'a zip archive'


def describe_weights(names: Iterable[str]) -> str:
    """Describe a network by the names of its weights: 'a ResNet', "a CLIP's image tower", ..."""
    names = list(names)
    for words, parts in NETWORKS:
        if all(any(part in name for name in names) for part in parts):
            return words
    return f'weights named {", ".join(sorted(map(shown, names))[:3])}'


def shown(item: object, most: int = 100) -> str:
    """Convert any object to text that fits into a line and can be printed anywhere."""
    text = str(item)
    return text[:most] if text.isprintable() else ascii(text)[1:-1][:most]


def nearest(name: Any, known: Iterable[Any]) -> str:
    """Suggest one of the known names: " (nearest: 'IoUMetric')", or '' when none is close."""
    by_lower = {str(k).lower(): str(k) for k in known}
    matches = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f' (nearest: {by_lower[matches[0]]!r})' if matches else ''
