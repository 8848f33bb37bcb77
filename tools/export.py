"""Write a student, or MaskCLIP with its config's words, as a file that runs without this package.

python tools/export.py CONFIG [CHECKPOINT] --format onnx --out student.onnx
python demo/run_exported.py student.onnx photo.jpg labels.png

The file to write may also stand last, without --out. Input and output take any batch, height and
width; the file is checked against the network.
"""

from collections.abc import Sequence

from mmseg.apis.command import add_config_arguments, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import output_dir


def main() -> None:
    parser = documented_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        'files', nargs='*', metavar='FILE', help="a student's checkpoint; the file to write"
    )
    formats = ['onnx', 'torch-export', 'openvino', 'tensorrt']
    parser.add_argument('--format', choices=formats, default='onnx')
    parser.add_argument(
        '--out', help='the file to write: a .onnx, or a .pt2, .xml or .engine for the others'
    )
    args = parser.parse_intermixed_args()
    checkpoint, out = checkpoint_and_out(args.files, args.out)
    from mmseg.apis import init_model
    from mmseg.apis.export import check_format, export
    from mmseg.apis.words import Words
    from mmseg.engine import load_config

    path = check_format(out, args.format)
    config = load_config(args.config, args.cfg_options)
    model = init_model(config, checkpoint, device='cpu')
    output_dir(path.parent)
    network = model.network(Words(model.vocabulary))
    options = dict(file_format=args.format, transforms=model.transforms)
    agreement = export(network, model.vocabulary, path, **options)
    print(
        f'{path}: {path.stat().st_size / 1e6:.1f} MB; {100 * agreement:.2f} % of the pixels '
        'labelled as by the network'
    )


def checkpoint_and_out(files: Sequence[str], out: str | None = None) -> tuple[str | None, str]:
    """Split ['a.pth', 'a.onnx'], or ['a.pth'] and 'a.onnx', into ('a.pth', 'a.onnx').

    The checkpoint is None if only one file is named.

    Raises:
        UserError: no file to write, or more files than these.
    """
    files = [*files, *([out] if out else [])]
    if not 1 <= len(files) <= 2:
        raise UserError(
            f'{" ".join(files) or "CONFIG alone"}: name one file to write, such as '
            '--out student.onnx, and before it a checkpoint at most'
        )
    return (files[0] if files[1:] else None), files[-1]


if __name__ == '__main__':
    run_command(main)
