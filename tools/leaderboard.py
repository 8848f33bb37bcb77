"""Every option of free labels alone, their best combination, and students: docs/leaderboard.md.

python tools/leaderboard.py [--results DIR] [--seeds 0 1 2 3 4] [--out FILE.md]

A seed is a miniature ViT of its own, trained from scratch (seed 0 is the shipped one), and a proxy
for ProxyCLIP. Variants of an option and the combination are chosen by the mean mIoU of all seeds on
validation scenes; what is shown is that of test scenes. Figures are kept in one JSON a seed, and
what is there is not measured again: with those of docs/benchmarks/leaderboard the page is made in
seconds, with an empty folder everything is measured anew, and a stopped run goes on.
"""

import argparse
from pathlib import Path

import _checkout  # noqa: F401  first: it decides which mmseg is found
from _leaderboard.board import Board
from _leaderboard.measure import measure_photos, measure_scenes, train_student
from _leaderboard.options import FAMILIES, PHOTO_FAMILIES, PHOTOS, SECOND
from _leaderboard.page import page_of_photos, page_of_scenes, published
from _leaderboard.speed import measure_speeds, speeds_of
from _leaderboard.students import students

from mmseg.apis.command import run_command
from mmseg.utils import atomic_path, output_dir


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--results', default='docs/benchmarks/leaderboard')
    parser.add_argument('--work-dir', default='work_dirs/leaderboard', help='of what is trained')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--scenes', type=int, default=300, help='of validation, and of test')
    parser.add_argument('--photos', type=int, default=60, help='the same, where they are at hand')
    parser.add_argument('--iterations', type=int, default=150, help='of a student')
    parser.add_argument('--no-students', action='store_true')
    parser.add_argument('--speeds', action='store_true', help='measure these too (ten minutes)')
    parser.add_argument('--out', default='docs/leaderboard.md')
    args = parser.parse_args()
    if args.speeds:
        measure_speeds(output_dir(args.results))
    parts = [of_scenes(args), of_photos(args), published()]
    output_dir(Path(args.out).parent)
    with atomic_path(args.out) as temporary:
        temporary.write_text('\n'.join(part for part in parts if part))
    print(f'written: {args.out}')


def of_scenes(args):
    """Command line -> the page's part on the miniature, and on its students"""
    scenes, folder = args.scenes, Path(args.work_dir)
    board = Board(
        'vit',
        args.seeds,
        FAMILIES,
        lambda *what: measure_scenes(*what, scenes, folder=folder),
        results=args.results,
        measured_with=dict(scenes=scenes, iterations=args.iterations),
    )
    steps, alone, found = board.combination(without=[SECOND]), board.alone(), {}
    if not args.no_students:

        def train(seed, settings):
            limits = dict(scenes=scenes, iterations=args.iterations)
            return train_student(seed, settings, **limits, folder=folder)

        found = students(board, steps, train)
    return page_of_scenes(board, alone, steps, found, speeds_of(args.results))


def of_photos(args):
    """Command line -> the page's part on real photos, where these or their figures are at hand"""
    known = Path(args.results, 'photos_voc20.json').is_file()
    if not known and not Path(PHOTOS).is_dir():
        return ''
    board = Board(
        'photos',
        ['voc20'],
        PHOTO_FAMILIES,
        lambda _, options, split: measure_photos(options, split, args.photos),
        results=args.results,
        measured_with=dict(photos=args.photos),
    )
    return page_of_photos(board)


if __name__ == '__main__':
    run_command(main)
