"""Write a trained student as one small file: weights, vocabulary, config and metrics.

python tools/publish_model.py CONFIG CHECKPOINT OUT.safetensors [--metrics eval_single_scale_*.json]

The file replaces a CHECKPOINT in tools/test.py, demo/image_demo.py and tools/export.py.
"""

from pathlib import Path

from mmseg.apis.command import add_config_arguments, documented_parser, run_command
from mmseg.utils import output_dir


def main() -> None:
    parser = documented_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument('checkpoint')
    parser.add_argument('out', type=Path, help='a .safetensors')
    parser.add_argument('--metrics', help='what tools/test.py wrote about it')
    args = parser.parse_args()
    from mmseg.apis.publish import publish
    from mmseg.engine import load_config

    config = load_config(args.config, args.cfg_options)
    output_dir(args.out.parent)
    digest = publish(config, args.checkpoint, args.out, metrics=args.metrics)
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, sha256 {digest}')


if __name__ == '__main__':
    run_command(main)
