"""Arguments of all converters of data sets, named as those of their `prepare` functions."""

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser, root: Path | None = None) -> None:
    """Add the arguments of every converter; None stands for the usual folder of a release."""
    usual = root or 'as above'
    parser.add_argument('root', nargs='?', type=Path, default=root, help=f'default {usual}')
    parser.add_argument(
        '--verify', dest='only_verify', action='store_true', help='only check what is there'
    )
    parser.add_argument(
        '--partial', action='store_true', help="any number of photos is right, not the release's"
    )
    parser.add_argument('--overwrite', action='store_true', help='make masks anew')
    parser.add_argument('--processes', type=int, help='default the cores of this machine')
