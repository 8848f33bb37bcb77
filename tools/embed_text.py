"""Class names -> a file of text embeddings, one row a class.

python tools/embed_text.py --model ViT-B-16-quickgelu --pretrained openai \\
    --vocabulary pascal_context_59 --out pretrain/context_ViT16_clip_text.pth
"""

from pathlib import Path

from mmseg.apis.command import documented_parser, run_command
from mmseg.utils import output_dir
from mmseg.vocabularies import load_vocabulary


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--model', help='an open_clip architecture; default ViT-B-16-quickgelu')
    parser.add_argument(
        '--pretrained',
        default='openai',
        help='a tag of open_clip, a file, or hf:..., which names its model too; default openai',
    )
    parser.add_argument(
        '--vocabulary',
        nargs='+',
        default=['pascal_context_59'],
        help='a name of mmseg/vocabularies/data, a text file, or the classes',
    )
    parser.add_argument(
        '--templates', default='maskclip85', help='plain, imagenet80, ...; default maskclip85'
    )
    parser.add_argument('--out', required=True, help='.pth, .npy or .safetensors')
    args = parser.parse_args()
    from mmseg.clip import load_clip, text_embeddings, write_text_embeddings

    output_dir(Path(args.out).parent)
    words, *others = args.vocabulary
    vocabulary = load_vocabulary(args.vocabulary if others else words)
    if not args.model and not args.pretrained.startswith('hf:'):
        args.model = 'ViT-B-16-quickgelu'
    clip = load_clip(args.model, args.pretrained)
    rows = text_embeddings(clip, vocabulary, args.templates)
    write_text_embeddings(args.out, rows)
    print(f'{rows.shape[0]} classes x {rows.shape[1]} written to {args.out}')


if __name__ == '__main__':
    run_command(main)
