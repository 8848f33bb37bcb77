"""The figures of the leaderboard: measured on demand, kept in files, and chosen among."""

import json
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmseg.errors import UserError
from mmseg.utils import output_dir, read_json, write_json

from .options import (
    COMBINATION,
    DISTILLED,
    DISTILLED_TRAINING,
    PUBLISHED_TRAINING,
    SWITCHES,
    WRITTEN,
    WRITTEN_TRAINING,
)

MASKCLIP = 'MaskCLIP'
Options = dict[str, Any]  # as `--cfg-options` takes them
Steps = list[tuple[str, Options]]


class Board:
    """mIoU in per cent of some members (seeds) under options.

    Args:
        name: prefix of the files of figures: `results/NAME_MEMBER.json`.
        members: the seeds, or other units that each figure is measured for.
        families: {family: {option: [variant]}}; a model has at most one option of a family.
        measure: (member, options, 'validation' or 'test') -> mIoU in per cent.
        results: folder of the files.
        measured_with: other settings of the figures; files with other values are refused.

    Raises:
        UserError: a file of figures is unreadable, or measured otherwise.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Any],
        families: Mapping[str, Mapping[str, Sequence[Options]]],
        measure: Callable[[Any, Options, str], float],
        *,
        results: str | Path,
        measured_with: Mapping[str, int],
    ) -> None:
        self.name, self.members, self.families = name, members, families
        self.measure, self.measured_with = measure, measured_with
        self.results = output_dir(results)
        self.kept = {member: self._read(self._path(member)) for member in members}

    def figures(self, options: Options, split: str) -> list[float]:
        """Return the mIoU of all members in 'validation' or 'test'."""
        return self.kept_or([split, options], lambda member: self.measure(member, options, split))

    def validated(self, options: Options) -> float:
        """Return the mean mIoU in validation, by which every choice is made."""
        return statistics.mean(self.figures(options, 'validation'))

    def best_of(
        self, options: Mapping[str, Sequence[Options]], base: Options | None = None
    ) -> dict[str, Options]:
        """Choose each option's best variant, added to the options `base`."""
        return {
            name: max(({**(base or {}), **v} for v in variants), key=self.validated)
            for name, variants in options.items()
        }

    def alone(self) -> dict[str, dict[str, Options]]:
        """Choose the best variant of every option: {family: {option: variant}}."""
        return {family: self.best_of(options) for family, options in self.families.items()}

    def combination(self, without: Collection[str] = ()) -> Steps:
        """Add the best of each family where it helps: [(option, it and all before)]."""
        steps: Steps = [(MASKCLIP, {})]
        for options in (self.families[name] for name in self.families if name not in without):
            best = self.best_of(options, steps[-1][1])
            name = max(best, key=lambda n: self.validated(best[n]))
            if self.validated(best[name]) > self.validated(steps[-1][1]):
                steps.append((name, best[name]))
        return steps

    def kept_or(self, what: Any, make: Callable[[Any], float]) -> list[float]:
        """Return the figures of all members under a key; measure and keep those that lack."""
        key = json.dumps(what, sort_keys=True)
        for member in self.members:
            values, path = self.kept[member], self._path(member)
            if key not in values:
                values[key] = make(member)
                write_json(path, dict(sorted(values.items())))
                print(f'{path.stem}: {values[key]:6.2f}  {key}', flush=True)
        return [self.kept[member][key] for member in self.members]

    def _path(self, member: Any) -> Path:
        return self.results / f'{self.name}_{member}.json'

    def _read(self, path: Path) -> dict[str, float]:
        if not path.is_file():
            return dict(self.measured_with)
        values = read_json(path)
        numbers = values.values() if isinstance(values, dict) else [None]
        if not all(type(number) in (int, float) for number in numbers):
            raise UserError(f'{path} holds no figures of this leaderboard; remove it')
        for name, value in self.measured_with.items():
            if values.get(name) != value:
                raise UserError(
                    f'the figures of {path} are of {values.get(name)} {name}, not {value}; name '
                    'another folder by --results'
                )
        return values


def students(
    board: Board,
    steps: Steps,
    train: Callable[[Any, Options], float],
    switches: Mapping[str, Options] = SWITCHES,
) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """Train students of a board's teachers under each switch of training.

    Args:
        board: of the teachers.
        steps: of `Board.combination`.
        train: (member, options of a student's config) -> mIoU in per cent.
        switches: {name: options of a student's config}.

    Returns:
        {(teacher, switch): (mIoU of the teachers, of their students)} on test scenes.
    """
    rows, teachers = {}, teachers_of(steps, board.families)

    def add(teacher: str, options: Options, switch: str, settings: Options) -> None:
        figures = board.kept_or(['student', settings], lambda member: train(member, settings))
        rows[teacher, switch] = board.figures(options, 'test'), figures

    for teacher, options in teachers.items():
        for switch, more in switches.items():
            if switch == PUBLISHED_TRAINING or teacher == list(teachers)[-1]:  # the best
                add(teacher, options, switch, {**of_teacher(options), **more})
    best = steps[-1][1]
    add(COMBINATION, best, WRITTEN_TRAINING, {'pseudo_labels': best, **WRITTEN})
    add(COMBINATION, best, DISTILLED_TRAINING, {'pseudo_labels': best, **DISTILLED})
    return rows


def teachers_of(steps: Steps, families: Mapping[str, Any]) -> dict[str, Options]:
    """Return {name: options} of MaskCLIP, of its best readout, and with a prior.

    A teacher reads whole inputs at the student's size, and what acts on labels is left out.
    """
    teachers: dict[str, Options] = {MASKCLIP: {}}
    for name, options in steps:
        if name in families.get('readout', ()):
            teachers[name] = options
        elif name in families['prior']:
            teachers[f'{list(teachers)[-1]}, {name}'] = options
    return teachers


def of_teacher(options: Options) -> Options:
    """Rename {'model.backbone.readout': ...} to {'model.teacher.backbone.readout': ...}."""
    return {f'model.teacher.{key.removeprefix("model.")}': v for key, v in options.items()}
