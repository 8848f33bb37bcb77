"""Export a CLIP of tools/train.py in half precision, with the words that its captions had.

python tools/export_clip.py CONFIG CHECKPOINT OUT.safetensors
"""

from mmseg.apis.command import add_config_arguments, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import atomic_path

PREFIX = 'clip.'
SCENES = 2000  # whose captions are read for their words


def main() -> None:
    parser = documented_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument('checkpoint')
    parser.add_argument('out', help='a .safetensors file')
    args = parser.parse_args()
    from safetensors.torch import save_file

    from mmseg.apis.test import require_data
    from mmseg.clip.state_dict import ROWS, prune_vocabulary
    from mmseg.engine import load_config
    from mmseg.utils.checkpoint import read_state

    config = load_config(args.config, args.cfg_options)
    if config.model.type != 'ClipPretraining':
        raise UserError(f'{args.config} trains no CLIP')
    dataset = require_data(config.train_dataloader)
    captions = [dataset[i]['data_samples'].caption for i in range(min(SCENES, len(dataset)))]
    state = read_state(args.checkpoint)
    clip = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    if ROWS not in clip:
        raise UserError(f'{args.checkpoint} is no checkpoint of {args.config}')
    small = prune_vocabulary(clip, captions)
    with atomic_path(args.out) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in small.items()}, temporary)
    size = sum(t.numel() * t.element_size() for t in small.values()) / 1e6
    print(f'{args.out}: {size:.1f} MB, {len(small["token_ids"])} tokens')


if __name__ == '__main__':
    run_command(main)
