"""Fetch what the configs need into pretrain/: CLIPs, text embeddings, students' ImageNet weights.

python tools/download_weights.py [--models RN50 ViT-B-16 ...] [--vocabularies pascal_context_59 ...]
    [--students resnet101c mit_b0 mit_b5 ...] [--dir pretrain] [--verify]

A model is an open_clip name, OpenAI's weights unless a tag follows (ViT-B-16:laion2b_s34b_b88k). A
broken download continues where it stopped; every file is checked and recorded in MANIFEST.json.
HF_ENDPOINT, HF_HUB_OFFLINE and the proxies of the environment count. `--verify` uses no network.
"""

from pathlib import Path

from mmseg.apis.command import documented_parser, run_command


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--models', nargs='*', default=['RN50', 'ViT-B-16'])
    parser.add_argument('--vocabularies', nargs='*', default=['pascal_context_59'])
    parser.add_argument('--students', nargs='*', default=['resnet101c', 'mit_b0', 'mit_b5'])
    parser.add_argument('--dir', type=Path, default=Path('pretrain'))
    parser.add_argument('--verify', action='store_true', help='check what is there; no network')
    args = parser.parse_args()
    from mmseg.preparation.weights import fetch_weights, verify_weights

    if args.verify:
        verify_weights(args.dir)
    else:
        fetch_weights(args.dir, args.models, args.vocabularies, args.students)


if __name__ == '__main__':
    run_command(main)
