"""The command line of `maskclip distill` and `tools/distill.py`."""

import argparse
from collections.abc import Sequence

from mmseg.apis.command import add_device, add_format


def parse_distill(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of `maskclip distill`."""
    parser = argparse.ArgumentParser(
        prog='distill', description='From photos and words to labels, a student and a report.'
    )
    parser.add_argument('photos', help='a folder of photos')
    parser.add_argument('--classes', required=True, help="'road, grass|lawn', or auto")
    parser.add_argument('--out', required=True, help='where labels, student and report go')
    parser.add_argument('--teacher', help="a MaskCLIP's config; default CLIP's ViT-B/16")
    parser.add_argument('--student', help="a student's config; default one that suits the device")
    parser.add_argument('--minutes', type=float, default=20.0, help='that the training may take')
    parser.add_argument('--iterations', type=int, help='of the training, in place of minutes')
    parser.add_argument('--held-out', type=float, default=0.1, help='share of the photos')
    parser.add_argument('--processes', type=int, default=1, help='that write labels')
    parser.add_argument('--val-masks', help='labels of some photos: the report tells IoU on them')
    parser.add_argument('--review', type=int, default=0, help='least sure photos, to correct')
    add_format(parser)
    parser.add_argument('--seed', type=int, default=0)
    add_device(parser)
    return parser.parse_args(argv)


def run_distill(argv: Sequence[str] | None = None) -> None:
    """Run `maskclip distill`."""
    args = parse_distill(argv)
    from .distill import distill

    options = vars(args)
    options.update(masks=options.pop('val_masks'), label_format=options.pop('format'))
    print(f'report: {distill(**options)}')
