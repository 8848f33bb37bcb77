"""The photos of a tar shard, compressed or not, as a stream: all of them, or an error."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from mmseg.datasets.reading import SUFFIXES
from mmseg.errors import UserError
from mmseg.utils import path_below


class DamagedShard(UserError):
    """A shard that cannot be read to its end; other shards are not concerned."""


class _Header(tarfile.TarInfo):
    """A member's header. Python takes a file's end, or a broken header, for the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> '_Header':
        """Read the next header; only the block of zeros that ends an archive is its end."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(
                f'it is cut off or broken ({error}), no end marker was reached; fetch it again'
            ) from error


def photos_of(path: str | Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield (key, name, bytes) of each key's first photo; a key ends at the first dot.

    Raises:
        DamagedShard: the file cannot be read, or ends before the archive does.
    """
    keys = set()
    try:
        with tarfile.open(path, 'r|*', tarinfo=_Header) as shard:
            for member in shard:
                folder, name = str(Path(member.name).parent), Path(member.name).name
                key = str(Path(folder, name.partition('.')[0]))
                photo = Path(name).suffix.lower() in SUFFIXES and not name.startswith('.')
                if member.isfile() and photo and key not in keys:
                    path_below('', member.name, path)
                    keys.add(key)
                    yield key, member.name, cast(IO[bytes], shard.extractfile(member)).read()
    except UserError as error:
        raise DamagedShard(str(error)) from error
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DamagedShard(f'the shard {path} cannot be read: {error}') from error
