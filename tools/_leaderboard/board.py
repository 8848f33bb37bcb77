"""The figures of the leaderboard: measured when they are asked for, kept, and chosen among."""

import json
import statistics

from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir, read_json

MASKCLIP = 'MaskCLIP'


class Board:
    """mIoU in per cent of some members (seeds), for options as `--cfg-options` takes them.

    Args:
        name: what the files of figures are called: `results/NAME_MEMBER.json`.
        members: what a figure is measured of, each.
        families: {family: {option: [variant]}}; a model has at most one option of a family.
        measure: (member, options, 'validation' or 'test') -> mIoU in per cent.
        results: folder of the files.
        measured_with: what figures depend on besides; files of other values are refused.

    Raises:
        UserError: a file of figures is unreadable, or measured otherwise.
    """

    def __init__(self, name, members, families, measure, *, results, measured_with):
        self.name, self.members, self.families = name, members, families
        self.measure, self.measured_with = measure, measured_with
        self.results = output_dir(results)
        self.kept = {member: self._read(self._path(member)) for member in members}

    def figures(self, options, split):
        """{key: value}, 'validation' or 'test' -> [mIoU] of the members"""
        return self.kept_or([split, options], lambda member: self.measure(member, options, split))

    def validated(self, options):
        """{key: value} -> mean mIoU in validation: what every choice looks at"""
        return statistics.mean(self.figures(options, 'validation'))

    def best_of(self, options, given=None):
        """{option: [variant]}, options that stand already -> {option: both together, at best}"""
        return {
            name: max(({**(given or {}), **v} for v in variants), key=self.validated)
            for name, variants in options.items()
        }

    def alone(self):
        """-> {family: {option: its best variant}}"""
        return {family: self.best_of(options) for family, options in self.families.items()}

    def combination(self, without=()):
        """-> [(option, it and all before)]: the best of each family, where it helps at all"""
        steps = [(MASKCLIP, {})]
        for options in (self.families[name] for name in self.families if name not in without):
            found = self.best_of(options, steps[-1][1])
            name = max(found, key=lambda n: self.validated(found[n]))
            if self.validated(found[name]) > self.validated(steps[-1][1]):
                steps.append((name, found[name]))
        return steps

    def kept_or(self, key, make):
        """What a figure is of, and what measures it of a member -> [figure] of the members"""
        key = json.dumps(key, sort_keys=True)
        for member in self.members:
            values, path = self.kept[member], self._path(member)
            if key not in values:
                values[key] = make(member)
                with atomic_path(path) as temporary:
                    temporary.write_text(json.dumps(values, indent=1, sort_keys=True) + '\n')
                print(f'{path.stem}: {values[key]:6.2f}  {key}', flush=True)
        return [self.kept[member][key] for member in self.members]

    def _path(self, member):
        return self.results / f'{self.name}_{member}.json'

    def _read(self, path):
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
