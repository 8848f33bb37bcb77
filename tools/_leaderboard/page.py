"""Write the leaderboard as a page of Markdown."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmseg.apis.record import mean_figures

from .board import MASKCLIP, Board, Options, Steps
from .options import COMBINATION, PUBLISHED, PUBLISHED_READOUTS, ROWS_HERE, SECOND

INTRODUCTION = """\
# Leaderboard

Made by `python tools/leaderboard.py`; do not edit. mIoU in per cent, mean ± standard deviation over
{count} towers (seeds {seeds}; [miniature.md](miniature.md)) on {scenes} test scenes; in brackets
the gain, and in how many seeds there is one. Variants and combinations were chosen on {scenes}
other scenes (validation) by the mean over the seeds. What holds on rendered scenes need not hold
for CLIP. Every figure: `{results}`.
"""
ALONE = """\
## Every option alone

In brackets the gain over MaskCLIP. Photos/s: CLIP ViT-B/16, one photo of 500 x 375 inside 520 x 520
at a time, fp32 on two CPU cores, random weights, 59 classes ({speed}). ProxyCLIP's proxy: one ViT a
seed, trained on scenes without captions or masks.
"""
NAMES = dict(vit='ViT', rn='ResNet')
CORRELATION = """\
Spearman's rank correlation of the ViT's figures with the authors' Context-59 mIoU (below), over
{names}: {spread} (seeds: {values}).
"""
STEPS = """\
## The best combinations

Family by family, the option that helped most in validation, where one did. In brackets the gain
over the line above.
"""
STUDENTS = """\
## Students

On labels of the {tower}, from scratch: SegFormer-b0 (3.4 million parameters) for {iterations}
iterations, which shows what a change is worth and not what a student can reach. The last two lines
are of a ResNet-10's first three stages under SegFormer's head (1.3 million): the student of
`tools/miniature.py`, of 2,000 scenes, and one of `maskclip distill`. In brackets the gain over the
teacher. Trainings: [students.md](students.md).
"""
PHOTOS = """\
## Real photos

{photos} photos of PASCAL VOC, 20 classes, with one small tower that is no CLIP and has no attention
blocks to read out (README, "What was measured here"). Chosen on {photos} photos whose image-level
labels that tower has seen.
"""
SPEED = """\
NACLIP, blended cosines, windows of 224 every 112 and PAMR with CLIP ViT-B/16, measured as above:
{speed:.2f} photos/s.
"""
PUBLISHED_TEXT = """\
## Published figures, and ours with real weights

mIoU on Pascal Context-59 / -60 with OpenAI's ViT-B/16, **by their authors**; of the 336-slide
protocol but where it says otherwise ([scoring.md](scoring.md)). "Here" is empty: it needs CLIP's
weights and the data set (`tools/reproduce.py`).
"""
REPRODUCED = Path(__file__).resolve().parents[2] / 'docs' / 'benchmarks' / 'reproduction.json'


def introduction(seeds: Sequence[int], scenes: int, results: str) -> str:
    """Write what all towers' parts share."""
    return INTRODUCTION.format(
        count=len(seeds), seeds=', '.join(map(str, seeds)), scenes=scenes, results=results
    )


class Findings(NamedTuple):
    """What was found on one tower.

    Args:
        board: the figures.
        alone, steps: its `alone()` and `combination()`.
        students: of `board.students`; {} for none.
        retrieval: R@1 in per cent of each seed, on 500 unseen scenes.
    """

    board: Board
    alone: Mapping[str, Mapping[str, Options]]
    steps: Steps
    students: Mapping[tuple[str, str], tuple[list[float], list[float]]] = {}
    retrieval: Sequence[float] = ()

    @property
    def name(self) -> str:
        return NAMES.get(self.board.name, self.board.name)

    @property
    def options(self) -> dict[str, Options]:
        """MaskCLIP, and every option's chosen variant."""
        found: dict[str, Options] = {MASKCLIP: {}}
        for family in self.alone.values():
            found |= family
        return found


def page_of_scenes(found: Sequence[Findings], speeds: Mapping[str, Any]) -> str:
    """Write the part on the miniature's towers and their students.

    Args:
        found: of each tower; the first has the readouts.
        speeds: {option: photos/s}, and under 'when' a date.
    """
    first = found[0]
    parts = [ALONE.format(speed=speeds.get('when', 'not measured')), _options(found, speeds)]
    parts += [_correlation(first), STEPS]
    for one in found:
        instead = one.alone.get(SECOND, {}) if one is first else {}
        parts += [_steps(one.board, one.steps, instead, one.name)]
    if COMBINATION in speeds:
        parts.append(SPEED.format(speed=speeds[COMBINATION]))
    for one in found:
        if one.students:
            iterations = one.board.measured_with['iterations']
            parts += [STUDENTS.format(iterations=iterations, tower=one.name), _students(one)]
    return '\n'.join(filter(None, parts))


def page_of_photos(board: Board) -> str:
    """Write the part on real photos."""
    head = PHOTOS.format(photos=board.measured_with['photos'])
    found = Findings(board, board.alone(), board.combination())
    return '\n'.join([head, _options([found], {}), _steps(board, found.steps, {}, 'combination')])


def published() -> str:
    """Write the part on published figures."""
    here = mean_figures(REPRODUCED)
    rows = []
    for name, *figures in PUBLISHED:
        mine = here.get(ROWS_HERE.get(name, ''))
        cells = [name, *figures, '' if mine is None else f'{mine:.2f}', '']
        rows.append(f'| {" | ".join(cells)} |')
    head = '| method | published, 59 | published, 60 | here, 59 | here, 60 |'
    return f'{PUBLISHED_TEXT}\n{_table(head, rows)}'


def _options(found: Sequence[Findings], speeds: Mapping[str, Any]) -> str:
    """Make the table of every option: its chosen variant, and its figures on each tower."""
    rows = []
    for name in dict.fromkeys(name for one in found for name in one.options):
        cells, variants = [], []
        for one in found:
            cells.append('')
            if name in one.options:
                values = one.board.figures(one.options[name], 'test')
                variants.append(settings(one.options[name]))
                base = one.board.figures({}, 'test') if name != MASKCLIP else None
                cells[-1] = gained(values, base)
        speed = [f'{speeds[name]:.2f}' if name in speeds else ''] if speeds else []
        rows.append([name, ', '.join(filter(None, dict.fromkeys(variants))), *cells, *speed])
    if any(one.retrieval for one in found):
        cells = [spread(one.retrieval) if one.retrieval else '' for one in found]
        rows.append(['R@1 of 500 scenes and captions', '', *cells, *([''] if speeds else [])])
    columns = ['option', 'chosen', *(one.name for one in found), *(['photos/s'] if speeds else [])]
    return _table(f'| {" | ".join(columns)} |', [f'| {" | ".join(row)} |' for row in rows])


def _correlation(found: Findings) -> str:
    """Compare the order of the readouts with the published one, seed by seed."""
    from scipy.stats import spearmanr

    names = [name for name in PUBLISHED_READOUTS if name in found.options]
    if len(names) < 3:
        return ''
    figures = zip(*(found.board.figures(found.options[name], 'test') for name in names))
    published = [PUBLISHED_READOUTS[name] for name in names]
    values = [spearmanr(published, mine).statistic for mine in figures]
    return CORRELATION.format(
        names=', '.join(names),
        spread=spread(values, digits=2),
        values=', '.join(f'{value:.2f}' for value in values),
    )


def _steps(board: Board, steps: Steps, instead: Mapping[str, Options], title: str) -> str:
    """List the steps, and then each option of `instead` in place of the last step's readout."""
    rows: list[str] = []
    before: list[float] | None = None
    for name, options in steps:
        values = board.figures(options, 'test')
        rows.append(f'| {"+ " if before else ""}{name} | {gained(values, before)} |')
        before = values
    for name, options in instead.items():
        values = board.figures({**steps[-1][1], **options}, 'test')
        rows.append(f'| {name} in place of the readout | {gained(values, before)} |')
    table = _table(f'| {title} | mIoU |', rows)
    return f'{table}\n`{json.dumps(steps[-1][1])}`\n'


def _students(found: Findings) -> str:
    """Make the table of a tower's students: a line for each training, a column for each teacher."""
    students = found.students
    teachers = {teacher: figures for (teacher, _), (figures, _) in students.items()}
    rows = []
    for training in dict.fromkeys(training for _, training in students):
        cells = [training]
        for teacher, base in teachers.items():
            row = students.get((teacher, training))
            cells.append(gained(row[1], base) if row else '')
        rows.append(f'| {" | ".join(cells)} |')
    heads = [f'{teacher}: {spread(figures)}' for teacher, figures in teachers.items()]
    return _table(f'| {found.name} | {" | ".join(heads)} |', rows)


def _table(head: str, rows: Sequence[str]) -> str:
    rule = '|---' * (head.count('|') - 1) + '|'
    return '\n'.join([head, rule, *rows]) + '\n'


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Format mean and deviation: [27, 29] -> '28.0 ± 1.4'."""
    deviation = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.{digits}f}{deviation}'


def gain(values: Sequence[float], base: Sequence[float]) -> str:
    """Format the mean gain, and in how many: [28, 30], [27, 31] -> '+0.0, 1 of 2'."""
    differences = [value - before for value, before in zip(values, base, strict=True)]
    better = sum(difference > 0 for difference in differences)
    return f'{statistics.mean(differences):+.1f}, {better} of {len(differences)}'


def gained(values: Sequence[float], base: Sequence[float] | None) -> str:
    """Format figures and their gain, if any: '28.0 ± 1.4 (+5.0, 2 of 2)'."""
    return spread(values) + (f' ({gain(values, base)})' if base else '')


def settings(options: Options) -> str:
    """Format {'model.backbone.readout': 'sclip'} as '`readout=sclip`', without shared keys."""
    shown = []
    for key, value in options.items():
        name = key.rpartition('.')[2]
        if name == 'protocol':
            shown.append(f'input {value["scale"][0]}')
        elif isinstance(value, dict):
            shared = ('type', 'crop', 'crop_size', 'text', 'model', 'pretrained', 'prior_encoder')
            shown.append(', '.join(f'{k}={v}' for k, v in value.items() if k not in shared))
        else:
            shown.append(f'{name}={value}')
    return f'`{"; ".join(filter(None, shown))}`' if any(shown) else ''
