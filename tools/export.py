"""A student, or MaskCLIP with its config's words, as a file that runs without this package.

python tools/export.py CONFIG [CHECKPOINT] --format onnx --out student.onnx
python demo/run_exported.py student.onnx photo.jpg labels.png

The file to write may also stand last, without --out. Input and output take any batch, height and
width; the file is checked against the network.
"""

import argparse

import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis import init_model
from mmseg.apis.command import add_config_arguments, run_command
from mmseg.apis.export import SUFFIXES, check_format, export
from mmseg.apis.inference import Words
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.utils import output_dir


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument(
        'files',
        nargs='*',
        metavar='FILE',
        help="a student's checkpoint; the file to write",
    )
    parser.add_argument('--format', choices=SUFFIXES, default='onnx')
    parser.add_argument('--out', help='the file to write: a .onnx, or a .pt2 for torch-export')
    args = parser.parse_intermixed_args()
    checkpoint, out = checkpoint_and_out(args.files, args.out)
    path = check_format(out, args.format)
    config = load_config(args.config, args.cfg_options)
    model = init_model(config, checkpoint, device='cpu')
    output_dir(path.parent)
    network = model.network(Words(model.vocabulary))
    options = dict(kind=args.format, transforms=model.transforms)
    agreement = export(network, model.vocabulary, path, **options)
    size = path.stat().st_size / 1e6
    print(
        f'{path}: {size:.1f} MB; {100 * agreement:.2f} % of the pixels labelled as by the network'
    )


def checkpoint_and_out(files, out=None):
    """['a.pth', 'a.onnx'], or ['a.pth'] and 'a.onnx' -> ('a.pth', 'a.onnx'); None for no checkpoint

    Raises:
        UserError: no file to write, or more files than these.
    """
    files = [*files, *([out] if out else [])]
    if not 1 <= len(files) <= 2:
        raise UserError(
            f'{" ".join(files) or "CONFIG alone"}: name one file to write, such as '
            '--out student.onnx, and before it a checkpoint at most'
        )
    return (None, *files)[-2:]


if __name__ == '__main__':
    run_command(main)
