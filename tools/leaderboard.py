"""Every option of free labels alone, their best combination, and students: docs/leaderboard.md.

python tools/leaderboard.py [--results DIR] [--seeds 0 1 2 3 4] [--out FILE.md]

A seed is a ViT and a ResNet of the miniature, trained from scratch (those of seed 0 are shipped),
and a proxy for ProxyCLIP. Variants of an option and the combination are chosen by the mean mIoU of
all seeds on validation scenes; what is shown is that of test scenes. Figures are kept in one JSON a
tower, and what is there is not measured again: a stopped run continues.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseg.apis.command import documented_parser, run_command
from mmseg.utils import output_dir, read_json, write_text

if TYPE_CHECKING:
    from _leaderboard.page import Findings


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--results', default='docs/benchmarks/leaderboard')
    parser.add_argument('--work-dir', default='work_dirs/leaderboard', help='of what is trained')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--scenes', type=int, default=300, help='of validation, and of test')
    parser.add_argument('--photos', type=int, default=60, help='the same, if they are there')
    parser.add_argument('--iterations', type=int, default=150, help='of a student')
    parser.add_argument(
        '--students',
        choices=('all', 'published', 'none'),
        default='all',
        help="of the ResNet's labels; 'published' leaves out the switches of training (an hour)",
    )
    parser.add_argument('--speeds', action='store_true', help='measure these too (ten minutes)')
    parser.add_argument('--out', default='docs/leaderboard.md')
    args = parser.parse_args()
    from _leaderboard.measure import TOWERS, measure_speeds
    from _leaderboard.options import SPEEDS
    from _leaderboard.page import introduction, page_of_scenes, published

    speed_file = output_dir(args.results) / 'speed.json'
    if args.speeds:
        measure_speeds(speed_file, SPEEDS)
    speeds = read_json(speed_file) if speed_file.is_file() else {}
    scenes = page_of_scenes([found_on(args, tower) for tower in TOWERS], speeds)
    head = introduction(args.seeds, args.scenes, args.results)
    parts = [head, scenes, photos_part(args), published()]
    output_dir(Path(args.out).parent)
    write_text(args.out, '\n'.join(part for part in parts if part))
    print(f'written: {args.out}')


def found_on(args: argparse.Namespace, tower: str) -> 'Findings':
    """Measure one tower of the miniature and its students."""
    from _leaderboard.board import Board, students
    from _leaderboard.measure import measure_retrieval, measure_scenes, train_student
    from _leaderboard.options import FAMILIES, PUBLISHED_TRAINING, RESNET_FAMILIES, SECOND, SWITCHES
    from _leaderboard.page import Findings

    scenes, folder = args.scenes, output_dir(args.work_dir)
    limits = dict(scenes=scenes, iterations=args.iterations)

    def measure(seed: Any, options: dict[str, Any], split: str) -> float:
        return measure_scenes(tower, seed, options, split, scenes, folder=folder)

    def train(seed: Any, settings: dict[str, Any]) -> float:
        return train_student(tower, seed, settings, **limits, folder=folder)

    families = RESNET_FAMILIES if tower == 'rn' else FAMILIES
    board = Board(tower, args.seeds, families, measure, results=args.results, measured_with=limits)
    retrieval = board.kept_or(
        ['retrieval'], lambda seed: measure_retrieval(tower, seed, folder=folder)
    )
    found = Findings(board, board.alone(), board.combination(without=[SECOND]), {}, retrieval)
    if tower != 'rn' or args.students == 'none':
        return found
    short = {PUBLISHED_TRAINING: SWITCHES[PUBLISHED_TRAINING]}
    trainings = SWITCHES if args.students == 'all' else short
    return found._replace(students=students(board, found.steps, train, trainings))


def photos_part(args: argparse.Namespace) -> str:
    """Make the page's part on real photos, if these or their figures are there."""
    from _leaderboard.board import Board
    from _leaderboard.measure import measure_photos
    from _leaderboard.options import PHOTO_FAMILIES, PHOTOS
    from _leaderboard.page import page_of_photos

    if not Path(args.results, 'photos_voc20.json').is_file() and not Path(PHOTOS).is_dir():
        return ''

    def measure(_: Any, options: dict[str, Any], split: str) -> float:
        return measure_photos(options, split, args.photos)

    limits = dict(photos=args.photos)
    board = Board(
        'photos', ['voc20'], PHOTO_FAMILIES, measure, results=args.results, measured_with=limits
    )
    return page_of_photos(board)


if __name__ == '__main__':
    run_command(main)
