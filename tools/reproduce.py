"""One command to the published table: fetch, prepare, evaluate, train, compare.

python tools/reproduce.py --plan [--rows maskclip class_weight plus peers teachers]
python tools/reproduce.py [--rows ...] [--work-dir DIR] [--seeds 0 1 2] [--yes]
python tools/reproduce.py --submit FILE/reproduction.json

--plan says what will be fetched, and how long each row takes on this machine, by ten steps of it
(two on a CPU). A stopped run continues; a row that fails does not stop the others. The work folder
gets reproduction.json, reproduction.md and curves.png. --submit checks such a file, of any reader,
and puts its figures into docs/.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _reproduce.rows import GROUPS, Row, rows_of

from mmseg.apis.command import add_device, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import output_dir, write_text

if TYPE_CHECKING:
    from _reproduce.run import Reproduction


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--rows', nargs='+', choices=[*GROUPS, 'all'], default=['all'])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/reproduction'))
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of trainings')
    parser.add_argument('--plan', action='store_true', help='say what would be done')
    parser.add_argument('--yes', action='store_true', help='go on, whatever the hours on a CPU')
    parser.add_argument(
        '--corruptions', action='store_true', help='each row under 15 corruptions too (75 tests)'
    )
    parser.add_argument('--submit', type=Path, metavar='FILE', help='check figures, fill docs/')
    parser.add_argument('--mirror', help='an address that holds the data set, to be asked first')
    parser.add_argument('--partial', action='store_true', help='any number of photos (a stand-in)')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='(a stand-in)'
    )
    add_device(parser)
    args = parser.parse_args()
    from _reproduce.page import submit
    from _reproduce.plan import print_plan, require_space, steps_to_fetch
    from _reproduce.run import Reproduction

    if args.submit:
        submit(args.submit)
        return
    rows = rows_of(args.rows)
    run = Reproduction(output_dir(args.work_dir), args.device, args.cfg_options)
    costs = print_plan(run, rows, args.seeds)
    if args.plan:
        return
    if costs.on_cpu and not args.yes:
        raise UserError(f'this takes {costs.hours:.0f} hours on this CPU; --yes goes on')
    require_space(run, rows)
    for command in steps_to_fetch(rows, args.mirror, partial=args.partial):
        run.call(command, run.work_dir / 'fetch.log')
    failed = measure(run, rows, args, costs.parts)
    write_page(run, rows)
    if failed:
        raise UserError(f'{len(failed)} of {len(rows)} rows failed: {"; ".join(failed)}')


def measure(
    run: 'Reproduction', rows: Sequence[Row], args: argparse.Namespace, parts: Mapping[str, int]
) -> list[str]:
    """Measure all rows and run the check list; return the titles of rows that failed."""
    from _reproduce.checks import differences, facts_of, right_facts
    from _reproduce.run import PHOTOS

    failed: list[str] = []
    found: dict[str, None] = {}
    run.describe(run.config(rows[0]))
    for row in rows:
        try:
            run.measure(row, args.seeds, parts[row.key])
            if args.corruptions:
                run.corrupt(row, args.seeds)
            if not row.iterations:  # a student rests on what its teacher's row rests on
                right = right_facts(row.key)
                facts = facts_of(run.config(row), run.overrides_of(row), right['masks'])
                found |= dict.fromkeys(differences(facts, right))
        except UserError as error:
            print(f'{row.title}: {error}', file=sys.stderr, flush=True)
            failed.append(row.title)
    photos = run.found['split']['photos']
    if photos != PHOTOS[0]:
        found[f'split: {photos} photos, the published list has {PHOTOS[0]}'] = None
    run.found['differences'] = list(found)
    run.save()
    return failed


def write_page(run: 'Reproduction', rows: Sequence[Row]) -> None:
    """Write reproduction.md and curves.png beside reproduction.json."""
    from _reproduce.page import draw_curves, page_of

    picture = run.work_dir / 'curves.png'
    drawn = draw_curves(rows, run.found, picture)
    page = run.work_dir / 'reproduction.md'
    write_text(page, page_of(run.found, picture.name if drawn else None))
    print(f'written: {run.path}, {page}')


if __name__ == '__main__':
    run_command(main)
