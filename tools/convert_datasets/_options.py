"""Arguments of all converters of data sets."""

import argparse
from pathlib import Path
from typing import Any

from mmseg.apis.command import documented_parser


def parser_of(description: str | None, root: str) -> argparse.ArgumentParser:
    """Create a parser with the arguments of every converter."""
    parser = documented_parser(description)
    parser.add_argument('root', nargs='?', type=Path, default=Path(root), help=f'default {root}')
    parser.add_argument('--verify', action='store_true', help='only check what is there')
    parser.add_argument(
        '--partial', action='store_true', help="any number of photos is right, not the release's"
    )
    parser.add_argument('--overwrite', action='store_true', help='make masks anew')
    parser.add_argument('--processes', type=int, help='default the cores of this machine')
    return parser


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `mmseg.preparation`'s functions."""
    return dict(
        only_verify=args.verify,
        partial=args.partial,
        overwrite=args.overwrite,
        processes=args.processes,
    )


def prepare_release(description: str | None, name: str, root: str) -> None:
    """Run the converter of a release of `mmseg.preparation.releases`."""
    args = parser_of(description, root).parse_args()
    from mmseg.preparation.releases import prepare

    prepare(name, args.root, **settings(args))
