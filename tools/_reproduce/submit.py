"""Check the figures of a reader, and put them into docs/."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.apis.record import mean_figures
from mmseg.errors import UserError
from mmseg.utils import atomic_path, read_json, write_json

from .page import README_HEAD, page_of, readme_table
from .rows import GROUPS
from .run import OPENAI, PHOTOS, ROOT, SCHEMA

KEPT = ROOT / 'docs' / 'benchmarks' / 'reproduction.json'
PAGE = ROOT / 'docs' / 'reproduction.md'
README = ROOT / 'README.md'
FIELDS = dict(mIoU=float, photos=int, command=str, weights_sha256=str, date=str, curve=list)


def submit(path: Path) -> None:
    """Check a reproduction.json and write docs/ from it; print what to do next.

    Raises:
        UserError: the file is not whole, of stand-ins, or its figures cannot be true.
    """
    found = read_json(path)
    rows = checked(found, path)
    write_json(KEPT, found)
    with atomic_path(PAGE) as temporary:
        temporary.write_text(page_of(found))
    readme = with_table(README.read_text(), mean_figures(KEPT))
    with atomic_path(README) as temporary:
        temporary.write_text(readme)
    print(f'{len(rows)} rows are whole; written: {KEPT}, {PAGE}, {README}')
    print('next: python tools/analysis/model_zoo.py > docs/model_zoo.md, and')
    print('python tools/leaderboard.py; then open a pull request with what changed')


def checked(found: Any, path: Path) -> list[str]:
    """Return the keys of the rows of a file that is whole and real."""

    def require(good: Any, what: str) -> None:
        if not good:
            raise UserError(f'{path}: {what}')

    require(isinstance(found, dict) and found.get('schema') == SCHEMA, f'no schema {SCHEMA}')
    require(found.get('rows'), 'it has no rows')
    require(not found.get('stand_in', True), 'its figures are of stand-ins')
    require(OPENAI in found.get('weights', {}).values(), "no weights have OpenAI's digest")
    require(found.get('split', {}).get('photos') in PHOTOS, f'its split has not {PHOTOS} photos')
    known = {row.key: row for rows in GROUPS.values() for row in rows}
    for key, results in found['rows'].items():
        require(key in known, f'no row is named {key!r}')
        for seed, result in results.items():
            for field, kind in FIELDS.items():
                good = isinstance(result.get(field), kind)
                require(good, f'{key}, seed {seed}: {field} is no {kind.__name__}')
            require(0 < result['mIoU'] < 100, f'{key}, seed {seed}: mIoU {result["mIoU"]}')
            digest = re.fullmatch('[0-9a-f]{64}', result['weights_sha256'])
            require(digest, f'{key}, seed {seed}: weights_sha256 is no sha256')
    return list(found['rows'])


def with_table(readme: str, figures: Mapping[str, float]) -> str:
    """Replace README's table of published rows."""
    before, _, rest = readme.partition(README_HEAD)
    after = rest[re.search(r'\n(?!\|)', rest).start() :]
    return before + readme_table(figures) + after
