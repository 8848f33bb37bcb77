"""A MiT of NVIDIA (mit_b0.pth ... mit_b5.pth) or of transformers -> the names that ours has.

python tools/model_converters/mit2mmseg.py SRC DST

Training reads all three layouts by itself; this writes files for other programs.
"""

from pathlib import Path

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import atomic_path


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('src', type=Path)
    parser.add_argument('dst', type=Path, help='.pth or .safetensors')
    args = parser.parse_args()
    if args.dst.suffix not in ('.pth', '.safetensors'):
        raise UserError(f'{args.dst} ends neither in .pth nor in .safetensors')
    if args.src.resolve() == args.dst.resolve():
        raise UserError(f'SRC and DST are both {args.src}')
    import torch
    from safetensors.torch import save_file

    from mmseg.models.checkpoints import read_mit

    state = read_mit(args.src)
    with atomic_path(args.dst) as temporary:
        (save_file if args.dst.suffix == '.safetensors' else torch.save)(state, temporary)
    print(f'{len(state)} tensors written to {args.dst}')


if __name__ == '__main__':
    run_command(main)
