"""A student, or MaskCLIP with its config's words, as a file that runs without this package.

python tools/export.py CONFIG [CHECKPOINT] --format onnx --out student.onnx
python demo/run_exported.py student.onnx photo.jpg labels.png

Input and output take any batch, height and width; the file is checked against the network.
"""

import argparse

import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis import init_model
from mmseg.apis.command import add_config_arguments, run_command
from mmseg.apis.export import SUFFIXES, check_format, export
from mmseg.apis.inference import Words
from mmseg.engine import load_config
from mmseg.utils import output_dir


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', nargs='?', help="a student's; needed for one")
    parser.add_argument('--format', choices=SUFFIXES, default='onnx')
    parser.add_argument('--out', required=True, help='a .onnx, or a .pt2 for torch-export')
    args = parser.parse_args()
    path = check_format(args.out, args.format)
    config = load_config(args.config, args.cfg_options)
    model = init_model(config, args.checkpoint, device='cpu')
    output_dir(path.parent)
    network = model.network(Words(model.vocabulary))
    agreement = export(network, model.vocabulary, path, kind=args.format)
    size = path.stat().st_size / 1e6
    print(
        f'{path}: {size:.1f} MB; {100 * agreement:.2f} % of the pixels labelled as by the network'
    )


if __name__ == '__main__':
    run_command(main)
