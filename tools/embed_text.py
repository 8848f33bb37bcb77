"""Class names -> a file of text embeddings, one row a class.

python tools/embed_text.py --model ViT-B-16-quickgelu --pretrained openai \\
    --vocabulary pascal_context_59 --out pretrain/context_ViT16_clip_text.pth
"""

import argparse
from pathlib import Path

import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.clip import load_clip, text_embeddings, write_text_embeddings
from mmseg.utils import output_dir
from mmseg.vocabularies import TEMPLATES, list_vocabularies, load_vocabulary


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', default='ViT-B-16-quickgelu', help='an open_clip architecture')
    parser.add_argument('--pretrained', default='openai', help='a tag of open_clip, or a file')
    parser.add_argument(
        '--vocabulary',
        nargs='+',
        default=['pascal_context_59'],
        help=f'{", ".join(list_vocabularies())}; a text file; or the classes',
    )
    parser.add_argument('--templates', default='maskclip85', choices=list(TEMPLATES))
    parser.add_argument(
        '--no-renormalize',
        action='store_true',
        help='leave the means shorter than 1 (the published weigher file)',
    )
    parser.add_argument('--out', required=True, help='.pth, .npy or .safetensors')
    return parser.parse_args()


def main():
    args = parse_arguments()
    output_dir(Path(args.out).parent)
    words = args.vocabulary
    vocabulary = load_vocabulary(words[0] if len(words) == 1 else words)
    clip = load_clip(args.model, args.pretrained)
    rows = text_embeddings(clip, vocabulary, args.templates, renormalize=not args.no_renormalize)
    write_text_embeddings(args.out, rows)
    print(f'{rows.shape[0]} classes x {rows.shape[1]} written to {args.out}')


if __name__ == '__main__':
    run_command(main)
