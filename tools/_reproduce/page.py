"""Write what was found as a page of Markdown, a picture of the training curves, and docs/."""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Interval, MinLen
from pydantic import StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from mmseg.apis.record import mean_figures
from mmseg.errors import UserError
from mmseg.utils import read_json, write_json, write_text

from .rows import GROUPS, Row
from .run import OPENAI, ROOT

KEPT = ROOT / 'docs' / 'benchmarks' / 'reproduction.json'
PAGE = ROOT / 'docs' / 'reproduction.md'
README = ROOT / 'README.md'
TITLES = dict(
    maskclip='MaskCLIP',
    class_weight='MaskCLIP with the class weight',
    plus='MaskCLIP+',
    peers='Readouts, in the 336-slide protocol',
    teachers='Students of other readouts',
)
Digest = Annotated[str, StringConstraints(pattern='^[0-9a-f]{64}$')]
Seed = Annotated[str, StringConstraints(pattern='^[0-9]+$')]


class Result(TypedDict):
    """A row's figures of one seed."""

    mIoU: Annotated[float, Interval(gt=0, lt=100)]
    photos: int
    command: str
    weights_sha256: Digest
    environment: dict[str, str]
    date: str
    curve: list[tuple[int, float]]


class Split(TypedDict):
    """The val split: the published list, or all photos that the release marks."""

    photos: Literal[5104, 5105]
    sha256: Digest


class Submission(TypedDict):
    """What a reproduction.json of real figures has, among other things."""

    schema: Literal[1]
    stand_in: Literal[False]
    weights: dict[str, Digest]
    split: Split
    rows: Annotated[dict[str, Annotated[dict[Seed, Result], MinLen(1)]], MinLen(1)]


HEAD = """\
# Reproduction

mIoU in per cent on Pascal Context-59. **Published** by the authors of the methods; **measured** by
`python tools/reproduce.py`, which wrote this page.
"""
EMPTY = """
Nothing was measured yet: it needs CLIP's weights, Pascal Context and, for the students, a GPU.

    python tools/reproduce.py --plan        # what will be fetched, time and memory on your machine
    python tools/reproduce.py               # everything; goes on where it stopped
"""
STAND_IN = """
**These figures are of stand-ins** (other weights, photos or lengths of training than the published
ones). They show that the tool works, and nothing else.
"""
README_HEAD = '| | mIoU, published | measured here | config |'


def readme_table(figures: Mapping[str, float]) -> str:
    """Write README's table of published rows: figures of `mean_figures`, empty until then."""
    lines = [README_HEAD, '|---|---|---|---|']
    for group in ('maskclip', 'class_weight', 'plus'):
        for row in GROUPS[group]:
            mine = f'{figures[row.key]:.2f}' if row.key in figures else ''
            lines.append(f'| {row.title} | {row.published:.2f} | {mine} | `{row.config}.py` |')
    return '\n'.join(lines)


def page_of(found: Mapping[str, Any] | None, picture: str | None = None) -> str:
    """Write the page of a reproduction.json; of None, that nothing was measured."""
    if not found:
        return HEAD + EMPTY
    parts = [HEAD]
    if found['stand_in']:
        parts.append(STAND_IN)
    for group, rows in GROUPS.items():
        lines = [_line(row, found) for row in rows if found['rows'].get(row.key)]
        if lines:
            head = '| | published | measured | difference | seeds | verdict |'
            parts.append(
                f'\n## {TITLES[group]}\n\n{head}\n|{"---|" * 6}\n' + '\n'.join(lines) + '\n'
            )
    if picture:
        parts.append(
            f'\n![mIoU of the trainings, and the marks of the published logs]({picture})\n'
        )
    causes = [f'* {line}' for line in found.get('differences', [])]
    if causes:
        parts.append(
            '\n## Where this set-up differs from a right one\n\n' + '\n'.join(causes) + '\n'
        )
    parts.append(_environment(found))
    return ''.join(parts)


def _line(row: Row, found: Mapping[str, Any]) -> str:
    results = found['rows'][row.key]
    values = [result['mIoU'] for result in results.values()]
    measured = f'{statistics.mean(values):.2f}'
    if len(values) > 1:
        measured += f' ± {statistics.stdev(values):.2f}'
    if found['stand_in']:
        measured += ' (stand-in)'
    published, difference = '', ''
    if row.published is not None:
        published = f'{row.published:.2f}'
        difference = f'{statistics.mean(values) - row.published:+.2f}'
    cells = [row.title, published, measured, difference, ', '.join(results), verdict(row, found)]
    return f'| {" | ".join(cells)} |'


def verdict(row: Row, found: Mapping[str, Any]) -> str:
    """Judge a row: within the tolerance, or what to look at first."""
    if found['stand_in']:
        return 'stand-in'
    if row.published is None:
        return 'no published figure'
    values = [result['mIoU'] for result in found['rows'][row.key].values()]
    if abs(statistics.mean(values) - row.published) <= row.tolerance:
        return f'reproduced (within {row.tolerance:g})'
    causes = found.get('differences', [])
    return f'differs: {causes[0]}' if causes else 'differs; the check list finds no cause'


def _environment(found: Mapping[str, Any]) -> str:
    rows = ['\n## Commands, weights, environment\n', '| row | seed | command | photos | date |']
    rows.append('|---|---|---|---|---|')
    known = {row.key: row for rows in GROUPS.values() for row in rows}
    environment: dict[str, str] = {}
    for key, results in found['rows'].items():
        for seed, result in results.items():
            cells = [known[key].title, seed, f'`{result["command"]}`', str(result['photos'])]
            rows.append(f'| {" | ".join([*cells, result["date"]])} |')
            environment = result['environment']
    rows.append(
        f'\nSplit list: {found["split"]["photos"]} photos, sha256 `{found["split"]["sha256"]}`.'
    )
    rows += [f'* `{name}`: sha256 `{digest}`' for name, digest in found['weights'].items()]
    rows.append('\n' + '; '.join(f'{name}: {value}' for name, value in environment.items()))
    return '\n'.join(rows) + '\n'


def draw_curves(rows: Sequence[Row], found: Mapping[str, Any], path: Path) -> bool:
    """Draw the validations of all trainings, and the published marks; False without any."""
    from matplotlib.figure import Figure

    from mmseg.apis.result import write_image

    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes, labels = figure.subplots(), set[str]()
    for i, row in enumerate(row for row in rows if row.iterations):
        for result in found['rows'].get(row.key, {}).values():
            if result['curve']:
                label = row.title if row.title not in labels else '_'  # once for all seeds
                labels.add(row.title)
                steps, values = zip(*result['curve'])
                axes.plot(steps, values, color=f'C{i}', label=label, marker='.', linewidth=1)
        if row.marks:
            axes.scatter(*zip(*row.marks), color=f'C{i}', marker='*', s=120, zorder=3)
    if labels:
        title = 'stars: published logs'
        if found['stand_in']:
            title = f'stand-ins, not the published set-up ({title})'
        axes.set(xlabel='iteration', ylabel='mIoU (%) on the val set', title=title)
        axes.legend(frameon=False, fontsize=8)
        write_image(figure, path, dpi=110, format='png')
    return bool(labels)


def submit(path: Path) -> None:
    """Check a reproduction.json and write docs/ from it; print what to do next.

    Raises:
        UserError: the file is not whole, of stand-ins, or its figures cannot be true.
    """
    found = read_json(path)
    rows = checked(found, path)
    page = page_of(found)
    write_json(KEPT, found)
    write_text(PAGE, page)
    write_text(README, with_table(README.read_text(), mean_figures(KEPT)))
    print(f'{len(rows)} rows are whole; written: {KEPT}, {PAGE}, {README}')
    print('next: python tools/analysis/model_zoo.py > docs/model_zoo.md, and')
    print('python tools/leaderboard.py; then open a pull request with what changed')


def checked(found: Any, path: Path) -> list[str]:
    """Return the keys of the rows of a file that is whole and real.

    Raises:
        UserError: the first thing that is not as `Submission` says, or that is not known.
    """
    if isinstance(found, dict) and found.get('stand_in'):
        raise UserError(f'{path}: its figures are of stand-ins')
    try:
        TypeAdapter(Submission).validate_json(json.dumps(found), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f'{path}: {".".join(map(str, first["loc"]))}: {first["msg"]}') from error
    known = {row.key for rows in GROUPS.values() for row in rows}
    for key in found['rows']:
        if key not in known:
            raise UserError(f'{path}: no row is named {key!r}')
    if OPENAI not in found['weights'].values():
        raise UserError(f"{path}: no weights have OpenAI's digest")
    return list(found['rows'])


def with_table(readme: str, figures: Mapping[str, float]) -> str:
    """Replace README's table of published rows."""
    before, _, rest = readme.partition(README_HEAD)
    after = rest[re.search(r'\n(?!\|)', rest).start() :]
    return before + readme_table(figures) + after
