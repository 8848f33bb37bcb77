"""docs/model_zoo.md: every leaf with its parameters, its published figure, and its command.

python tools/analysis/model_zoo.py > docs/model_zoo.md
python tools/analysis/model_zoo.py --index > model-index.yml      # for OpenMMLab's tools

Parameters are counted on networks of random weights; figures are in PUBLISHED and MEASURED below.
"""

import tempfile
from pathlib import Path
from typing import Any

from mmseg.apis.command import documented_parser, run_command
from mmseg.vocabularies import load_vocabulary

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
WIDTHS = dict(r50=1024, vit16=512, siglip2=768, pe_core=1024, mobileclip2=512)  # of the text
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
    import torch

    from mmseg.apis.record import mean_figures

    print(HEAD)
    torch.manual_seed(0)
    measured = mean_figures(MEASURED)
    with tempfile.TemporaryDirectory() as folder:
        for group, title in FOLDERS.items():
            print(f'## {title}: `configs/{group}/`\n')
            print('| leaf | trained | in all | published | measured |\n|---|---|---|---|---|')
            for path in sorted((CONFIGS / group).glob('*.py')):
                trained, whole = parameters(path, Path(folder))
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


def parameters(path: Path, folder: Path) -> tuple[str, str]:
    """Count the parameters of a leaf in millions: to train, and in all."""
    from mmseg.engine import load_config
    from mmseg.models import count_parameters
    from mmseg.models.frozen import frozen_modules
    from mmseg.registry import MODELS

    config = load_config(path)
    model = config.model
    text = str(text_file(folder, config, path.stem))
    clip = model.teacher if 'teacher' in model else model
    clip.backbone.pretrained, clip.decode_head.text = 'random', dict(file=text)
    if clip.backbone.get('proxy'):
        clip.backbone.proxy.pretrained = 'random'
    for weight in (model.get('class_weight'), clip.get('class_weight')):
        if weight:
            weight.text = dict(file=str(text_file(folder, config, 'vit16')))
            if weight.get('prior_encoder'):
                weight.prior_encoder.pretrained = 'random'
            else:
                weight.text = dict(file=text)
    if 'teacher' in model:
        model.backbone.pretrained = False
        counts = count_parameters(MODELS.build(model))
        return f'{counts.trained / 1e6:.2f}', f'{counts.original / 1e6:.2f}'
    built = MODELS.build(model)
    parts = [built, *(module for _, module in frozen_modules(built))]
    return '0', f'{sum(p.numel() for part in parts for p in part.parameters()) / 1e6:.2f}'


def text_file(folder: Path, config: Any, name: str) -> Path:
    """Write random unit rows for the leaf's classes, as wide as its CLIP's text."""
    import torch
    import torch.nn.functional as F

    rows = len(load_vocabulary(config.get('vocabulary', 'voc_20')))
    width = next(width for tower, width in WIDTHS.items() if tower in name)
    path = folder / f'{rows}x{width}.pth'
    torch.save(F.normalize(torch.randn(rows, width), dim=1), path)
    return path


if __name__ == '__main__':
    run_command(main)
