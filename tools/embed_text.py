"""Class names -> a file of text embeddings, one row a class.

python tools/embed_text.py --model ViT-B-16-quickgelu --pretrained openai \\
    --vocabulary pascal_context_59 --out pretrain/context_ViT16_clip_text.pth
"""

import argparse
from pathlib import Path
from typing import Any

from mmseg.apis.command import add_config_options, documented_parser, run_command
from mmseg.utils import output_dir
from mmseg.vocabularies import load_vocabulary


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Take each setting from the command line, else the config, else the published ViT-B/16."""
    chosen = dict(
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        vocabulary='pascal_context_59',
        templates='maskclip85',
    )
    if args.config:
        from mmseg.engine import load_config

        config = load_config(args.config, args.cfg_options)
        chosen |= {k: config.model.backbone.get(k) for k in ('model', 'pretrained')}
        chosen['vocabulary'] = config.model.vocabulary
        chosen['templates'] = config.model.decode_head.text.get('templates', 'maskclip85')
    named = {key: getattr(args, key) for key in chosen}
    if str(args.pretrained).startswith('hf:'):  # it names the model too
        chosen['model'] = None
    if len(named['vocabulary'] or ()) == 1:
        named['vocabulary'] = named['vocabulary'][0]
    return chosen | {key: value for key, value in named.items() if value}


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--config', help='take CLIP, vocabulary and templates from this config')
    add_config_options(parser)
    parser.add_argument('--model', help='an open_clip architecture; default ViT-B-16-quickgelu')
    parser.add_argument('--pretrained', help='a tag of open_clip, a file or hf:...; default openai')
    parser.add_argument(
        '--vocabulary',
        nargs='+',
        help='a name of mmseg/vocabularies/data, a text file, or the classes',
    )
    parser.add_argument('--templates', help='plain, imagenet80, ...; default maskclip85')
    parser.add_argument(
        '--no-renormalize',
        action='store_true',
        help='leave the means shorter than 1 (the published prior_encoder file)',
    )
    parser.add_argument('--out', required=True, help='.pth, .npy or .safetensors')
    args = parser.parse_args()
    from mmseg.clip import load_clip, text_embeddings, write_text_embeddings

    output_dir(Path(args.out).parent)
    chosen = settings(args)
    vocabulary = load_vocabulary(chosen['vocabulary'])
    clip = load_clip(chosen['model'], chosen['pretrained'])
    unit = not args.no_renormalize
    rows = text_embeddings(clip, vocabulary, chosen['templates'], renormalize=unit)
    write_text_embeddings(args.out, rows)
    print(f'{rows.shape[0]} classes x {rows.shape[1]} written to {args.out}')


if __name__ == '__main__':
    run_command(main)
