"""What the converters of data sets share."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found


def parser_of(description, root):
    """A parser with what every converter takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', nargs='?', type=Path, default=Path(root), help=f'default {root}')
    parser.add_argument('--verify', action='store_true', help='only check what is there')
    parser.add_argument(
        '--partial', action='store_true', help="any number of photos is right, not the release's"
    )
    parser.add_argument('--overwrite', action='store_true', help='make masks anew')
    parser.add_argument('--processes', type=int, help='default the cores of this machine')
    return parser


def settings(args):
    """-> what `prepare` takes besides the root"""
    return dict(
        only_verify=args.verify,
        partial=args.partial,
        overwrite=args.overwrite,
        processes=args.processes,
    )
