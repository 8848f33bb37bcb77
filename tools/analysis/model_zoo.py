"""docs/model_zoo.md: every leaf with its parameters, its published figure, and its command.

python tools/analysis/model_zoo.py > docs/model_zoo.md
python tools/analysis/model_zoo.py --index > model-index.yml      # for OpenMMLab's tools

Parameters are counted on networks of random weights; figures are in PUBLISHED and MEASURED below.
"""

from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmseg.apis.command import documented_parser, run_command

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FOLDERS = {
    'maskclip': 'MaskCLIP',
    'maskclip_text': 'MaskCLIP with the class weight',
    'maskclip_plus/anno_free': 'MaskCLIP+, annotation-free',
    'maskclip_plus/beyond': "Students on other teachers' labels, annotation-free",
    'maskclip_plus/zero_shot': 'MaskCLIP+, zero-shot: masks of the seen classes',
}
CONTEXT = 'pascal_context_59'
PUBLISHED = {
    f'maskclip_r50_520x520_{CONTEXT}': '18.46',
    f'maskclip_vit16_520x520_{CONTEXT}': '21.68',
    f'maskclip_text_r50_520x520_{CONTEXT}': '20.54',
    f'maskclip_text_vit16_520x520_{CONTEXT}': '24.96',
    f'maskclip_plus_r50_deeplabv2_r101-d8_480x480_4k_{CONTEXT}': '24.82',
    f'maskclip_plus_r50_deeplabv2_r101-d8_class_weight_480x480_4k_{CONTEXT}': '25.96',
    f'maskclip_plus_vit16_deeplabv2_r101-d8_480x480_4k_{CONTEXT}': '31.56',
    f'maskclip_plus_vit16_deeplabv2_r101-d8_class_weight_480x480_4k_{CONTEXT}': '32.42',
    f'maskclip_plus_r50_segformer_b5_480x480_8k_{CONTEXT}': '22.87',
    f'maskclip_plus_vit16_segformer_b5_480x480_8k_{CONTEXT}': '33.88 (34.27 at 4k)',
}
INDEX = """# Every config, for OpenMMLab's tools; written by tools/analysis/model_zoo.py --index.
# Metrics are those that the authors of the methods published; none was measured by this project.
Collections:
  - Name: MaskCLIP
    Paper:
      Title: Extract Free Dense Labels from CLIP
      URL: https://arxiv.org/abs/2112.01071
  - Name: MaskCLIP+
    Paper:
      Title: Extract Free Dense Labels from CLIP
      URL: https://arxiv.org/abs/2112.01071
Models:"""
RESULTS = """    Results:
      - Task: Semantic Segmentation
        Dataset: Pascal Context 59
        Metrics:
          mIoU: {}"""
MEASURED = CONFIGS.parent / 'docs' / 'benchmarks' / 'reproduction.json'  # of tools/reproduce.py
HEAD = """# Model zoo

Every leaf config, with OpenAI's RN50 or ViT-B/16 unless its name says another CLIP. mIoU in per
cent on the validation set (Pascal Context-59: 5,104 photos). **Published**: by the authors of
MaskCLIP and of the class weight, not by us. **Measured**: by us; empty until it was. Parameters in
millions: trained, and in all, with the frozen CLIP, as the original implementation counts.
`tools/analysis/model_zoo.py` makes this page.

    python tools/test.py configs/FOLDER/LEAF.py --eval mIoU                # MaskCLIP
    python tools/train.py configs/FOLDER/LEAF.py                           # a student
    python tools/test.py configs/FOLDER/LEAF.py work_dirs/LEAF/latest.pth --eval mIoU

`clip_numerics` leaves have CLIP's mean, std and activation and clean losses; the others have the
numerics of the published figures ([quirks.md](quirks.md)). The miniature's leaves are in
[miniature.md](miniature.md).
"""


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--index', action='store_true', help='model-index.yml in place of the page')
    if parser.parse_args().index:
        print(model_index())
        return
    from mmseg.apis.record import mean_figures

    print(HEAD)
    measured = mean_figures(MEASURED)
    for group, title in FOLDERS.items():
        print(f'## {title}: `configs/{group}/`\n')
        print('| leaf | trained | in all | published | measured |\n|---|---|---|---|---|')
        for path in sorted((CONFIGS / group).glob('*.py')):
            trained, whole = parameters(path)
            mine = f'{measured[path.stem]:.2f}' if path.stem in measured else ''
            figures = PUBLISHED.get(path.stem, ''), mine
            print(f'| `{path.stem}` | {trained} | {whole} | {" | ".join(figures)} |')
        print()


def model_index() -> str:
    """List every config with its published figure, in the format of model-index.yml."""
    lines = [INDEX]
    for path in sorted(CONFIGS.rglob('*.py')):
        below = path.relative_to(CONFIGS.parent)
        if '_base_' not in below.parts:
            collection = 'MaskCLIP+' if 'plus' in path.stem else 'MaskCLIP'
            lines.append(f'  - Name: {path.stem}')
            lines.append(f'    In Collection: {collection}\n    Config: {below.as_posix()}')
            if path.stem in PUBLISHED:
                lines.append(RESULTS.format(PUBLISHED[path.stem].partition(' ')[0]))
    return '\n'.join(lines)


def parameters(path: Path) -> tuple[str, str]:
    """Count the parameters of a leaf in millions: to train, and in all."""
    import torch

    from mmseg.engine import forget_weights, load_config
    from mmseg.models import count_parameters
    from mmseg.models.frozen import frozen_modules
    from mmseg.registry import MODELS

    def text_of(clip: Any, vocabulary: Any, *_: Any, **__: Any) -> torch.Tensor:
        """Stand for embeddings, whose tokenizers may have to be fetched."""
        return torch.ones(len(vocabulary), clip.embed_dim)

    config = load_config(path)
    forget_weights(config)
    with patch('mmseg.models.build.text_embeddings', text_of):
        built = MODELS.build(config.model)
    if 'teacher' in config.model:
        counts = count_parameters(built)
        return f'{counts.trained / 1e6:.2f}', f'{counts.original / 1e6:.2f}'
    parts = [built, *(module for _, module in frozen_modules(built))]
    return '0', f'{sum(p.numel() for part in parts for p in part.parameters()) / 1e6:.2f}'


if __name__ == '__main__':
    run_command(main)
