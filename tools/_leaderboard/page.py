"""Write the leaderboard as a page of Markdown."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmseg.apis.record import mean_figures

from .board import MASKCLIP, Board, Options, Steps
from .options import COMBINATION, PUBLISHED, PUBLISHED_READOUTS, ROWS_HERE, SECOND

INTRODUCTION = """\
# Leaderboard

Made by `python tools/leaderboard.py`; do not edit. mIoU in per cent, mean ± standard deviation
over {count} towers (seeds {seeds}; [miniature.md](miniature.md)) on {scenes} test scenes.
Variants and combinations were chosen on {scenes} other scenes (validation) by the mean over the
seeds. "Better in" counts seeds. What holds on rendered scenes need not hold for CLIP; below, the
order of the readouts is compared with their published figures. Every figure: `{results}`.
"""
TOWER = """\
## {title}

R@1 of 500 unseen scenes: {retrieval} %.
"""
TITLES = dict(vit="The miniature's ViT", rn="The miniature's ResNet")
SPEEDS_TEXT = """\
Photos/s: CLIP ViT-B/16, one photo of 500 x 375 inside 520 x 520 at a time, fp32 on two CPU cores,
random weights, 59 classes ({speed}). ProxyCLIP's proxy: one ViT a seed, trained on scenes without
captions or masks.
"""
CORRELATION = """\
**Published order.** Spearman's rank correlation of these figures with the authors' Context-59 mIoU
(below), over {names}: {spread} (seeds: {values}).
"""
PHOTOS = """\
## Real photos

{photos} photos of PASCAL VOC, 20 classes, with a small tower that is no CLIP and has no
attention blocks to read out (README, "What was measured here"); one tower. Chosen on {photos}
of the photos whose image-level labels that tower has seen.
"""
STUDENTS = """\
### Students

From scratch, {iterations} iterations, one student per seed and line: SegFormer-b0 (3.4 million
parameters), or ResNet-10 under SegFormer's head (5.0 million) where the line says so. These lines
were chosen on validation scenes, with seeds 0 and 1 ([students.md](students.md)).
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


def page_of_scenes(
    board: Board,
    alone: Mapping[str, Mapping[str, Options]],
    steps: Steps,
    students: Mapping[tuple[str, str], tuple[list[float], list[float]]],
    speeds: Mapping[str, Any],
    retrieval: Sequence[float],
) -> str:
    """Write the part on one tower and its students.

    Args:
        board: the figures.
        alone, steps: its `alone()` and `combination()`.
        students: of `board.students`; {} for none.
        speeds: {option: photos/s}, and under 'when' a date.
        retrieval: R@1 in per cent of each seed.
    """
    of_readouts = 'readout' in board.families  # speeds are of a ViT
    speeds = speeds if of_readouts else {}
    title = TITLES.get(board.name, board.name)
    parts = [TOWER.format(title=title, retrieval=spread(retrieval)), _options(board, alone, speeds)]
    if of_readouts:
        parts.insert(1, SPEEDS_TEXT.format(speed=speeds.get('when', 'not measured')))
        parts.append(_correlation(board, alone))
    parts += ['### The best combination\n', _steps(board, steps, alone.get(SECOND, {}))]
    if COMBINATION in speeds:
        parts.append(SPEED.format(speed=speeds[COMBINATION]))
    if students:
        text = STUDENTS.format(iterations=board.measured_with['iterations'])
        parts += [text, _students(students)]
    return '\n'.join(parts)


def page_of_photos(board: Board) -> str:
    """Write the part on real photos."""
    head = PHOTOS.format(photos=board.measured_with['photos'])
    steps = _steps(board, board.combination())
    return '\n'.join([head, _options(board, board.alone(), {}), 'The best combination:\n', steps])


def page_of_presence(board: Board) -> str:
    """Write the priors of PRESENCE_FAMILIES, and their gain over the first, the class weight."""
    alone = board.alone()
    figures = {name: board.figures(chosen, 'test') for name, chosen in alone['prior'].items()}
    base, *others = figures
    rows = [f'| {name} | {gain(figures[name], figures[base])} |' for name in others]
    head = f'| option | over the {base} (better in) |'
    return f'{_options(board, alone, {})}\n{_table(head, rows)}'


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


def _options(
    board: Board, alone: Mapping[str, Mapping[str, Options]], speeds: Mapping[str, Any]
) -> str:
    base = board.figures({}, 'test')
    rows = [[MASKCLIP, '', spread(base), '', _speed(speeds, MASKCLIP)]]
    for options in alone.values():
        for name, chosen in options.items():
            values = board.figures(chosen, 'test')
            speed = _speed(speeds, name)
            rows.append([name, settings(chosen), spread(values), gain(values, base), speed])
    head = '| option | chosen | mIoU | over MaskCLIP (better in) | photos/s |'
    if not speeds:
        head, rows = head.replace(' photos/s |', ''), [row[:-1] for row in rows]
    return _table(head, [f'| {" | ".join(row)} |' for row in rows])


def _correlation(board: Board, alone: Mapping[str, Mapping[str, Options]]) -> str:
    """Compare the order of the readouts with the published one, seed by seed."""
    from scipy.stats import spearmanr

    chosen = {MASKCLIP: {}} | {name: v for family in alone.values() for name, v in family.items()}
    names = [name for name in PUBLISHED_READOUTS if name in chosen]
    if len(names) < 3:
        return ''
    figures = zip(*(board.figures(chosen[name], 'test') for name in names))
    published = [PUBLISHED_READOUTS[name] for name in names]
    values = [spearmanr(published, found).statistic for found in figures]
    deviation = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return CORRELATION.format(
        names=', '.join(names),
        spread=f'{statistics.mean(values):.2f}{deviation}',
        values=', '.join(f'{value:.2f}' for value in values),
    )


def _steps(board: Board, steps: Steps, instead: Mapping[str, Options] | None = None) -> str:
    """List the steps, and then each option of `instead` in place of the last step's readout."""
    rows: list[str] = []
    before: list[float] = []
    for name, options in steps:
        values = board.figures(options, 'test')
        more = gain(values, before) if before else ''
        rows.append(f'| {"+ " if before else ""}{name} | {spread(values)} | {more} |')
        before = values
    for name, options in (instead or {}).items():
        values = board.figures({**steps[-1][1], **options}, 'test')
        row = f'all of these, {name} in place of the readout'
        rows.append(f'| {row} | {spread(values)} | {gain(values, before)} |')
    text = 'Family by family, the option that helped most in validation, where one did.\n\n'
    table = _table('| | mIoU | over the line above (better in) |', rows)
    return f'{text}{table}\nAs options: `{json.dumps(steps[-1][1])}`\n'


def _students(students: Mapping[tuple[str, str], tuple[list[float], list[float]]]) -> str:
    rows = []
    for (teacher, switch), (teachers, values) in students.items():
        cells = [teacher, spread(teachers), switch, spread(values), gain(values, teachers)]
        rows.append(f'| {" | ".join(cells)} |')
    head = '| teacher | its mIoU | training | student | over its teacher (better in) |'
    return _table(head, rows)


def _table(head: str, rows: Sequence[str]) -> str:
    rule = '|---' * (head.count('|') - 1) + '|'
    return '\n'.join([head, rule, *rows]) + '\n'


def _speed(speeds: Mapping[str, Any], name: str) -> str:
    return f'{speeds[name]:.2f}' if name in speeds else ''


def spread(values: Sequence[float]) -> str:
    """Format mean and deviation: [27, 29] -> '28.0 ± 1.4'."""
    deviation = f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.1f}{deviation}'


def gain(values: Sequence[float], base: Sequence[float]) -> str:
    """Format the mean gain, and in how many: [28, 30], [27, 31] -> '+0.0 (1 of 2)'."""
    differences = [value - before for value, before in zip(values, base, strict=True)]
    better = sum(difference > 0 for difference in differences)
    return f'{statistics.mean(differences):+.1f} ({better} of {len(differences)})'


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
