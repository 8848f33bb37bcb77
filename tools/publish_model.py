"""A trained student as one small file: weights, vocabulary, config and metrics, in safetensors.

python tools/publish_model.py CONFIG CHECKPOINT OUT.safetensors [--metrics eval_single_scale_*.json]

It stands wherever a CHECKPOINT does: tools/test.py, demo/image_demo.py, tools/export.py.
"""

import argparse
from pathlib import Path

import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import add_config_arguments, run_command
from mmseg.apis.publish import publish
from mmseg.engine import load_config
from mmseg.utils import output_dir


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint')
    parser.add_argument('out', type=Path, help='a .safetensors')
    parser.add_argument('--metrics', help='what tools/test.py wrote about it')
    args = parser.parse_args()
    config = load_config(args.config, args.cfg_options)
    output_dir(args.out.parent)
    digest = publish(config, args.checkpoint, args.out, metrics=args.metrics)
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, sha256 {digest}')


if __name__ == '__main__':
    run_command(main)
