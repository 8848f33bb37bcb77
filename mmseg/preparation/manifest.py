"""`pretrain/MANIFEST.json`: source, size and sha256 of every file that was fetched."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from mmseg.errors import UserError
from mmseg.utils import digest_file, reason_of, write_json

NAME = 'MANIFEST.json'


def read_manifest(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Read {file: {'source', 'size', 'sha256', 'licence', 'fetched'}}; {} without a manifest.

    Raises:
        UserError: it is damaged.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_text())
        for entry in manifest.values():
            if type(entry['size']) is not int or type(entry['sha256']) is not str:
                raise TypeError('an entry has no size or sha256')
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is damaged ({reason_of(error)}); delete it and fetch again'
        ) from error
    return manifest


def record(folder: str | Path, file: str, source: str, licence: str) -> None:
    """Add a file of the folder to the manifest, or replace its entry."""
    path = Path(folder) / file
    entry = dict(
        source=source,
        size=path.stat().st_size,
        sha256=digest_file(path),
        licence=licence,
        fetched=date.today().isoformat(),
    )
    manifest = dict(sorted({**read_manifest(folder), file: entry}.items()))
    write_json(Path(folder) / NAME, manifest)


def problems(folder: str | Path) -> dict[str, str]:
    """Check every file of the manifest, without network; return {file: problem}."""
    wrong = {}
    for file, entry in read_manifest(folder).items():
        path = Path(folder) / file
        if not path.is_file():
            wrong[file] = 'is missing'
        elif path.stat().st_size != entry['size']:
            wrong[file] = f'has {path.stat().st_size} bytes, not {entry["size"]}'
        elif digest_file(path) != entry['sha256']:
            wrong[file] = 'has another sha256 than when it was fetched'
    return wrong
