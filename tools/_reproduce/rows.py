"""The rows of the published tables, with their configs: data only."""

from typing import Any, NamedTuple

SLIDE = 'beyond/vit16_336_slide_pascal_context_59'
VALIDATIONS = 4  # of a training
DINO = 'model.backbone.proxy={"model":"vit_base_patch8_224.dino","pretrained":"timm"}'


class Row(NamedTuple):
    """One figure: mIoU in per cent on Pascal Context-59.

    Attributes:
        published: by the authors of the method; None where there is no figure.
        options: `--cfg-options` of the config.
        iterations: of a training; 0 for a test alone.
        marks: {iteration: mIoU} of the published log.
        tolerance: points within which a figure counts as reproduced.
    """

    title: str
    config: str
    published: float | None
    options: tuple[str, ...] = ()
    iterations: int = 0
    marks: tuple[tuple[int, float], ...] = ()

    @property
    def tolerance(self) -> float:
        return 1.0 if self.iterations else 0.3

    @property
    def key(self) -> str:
        """A name for files, unique among all rows."""
        leaf = self.config.rpartition('/')[2]
        readout = [option.rpartition('=')[2] for option in self.options if 'readout' in option]
        return '-'.join([leaf, *readout])


def maskclip(title: str, leaf: str, published: float) -> Row:
    return Row(title, f'{leaf}_520x520_pascal_context_59', published)


def student(
    title: str, leaf: str, iterations: int, published: float | None, *marks: tuple[int, float]
) -> Row:
    config = f'maskclip_plus/{leaf}_480x480_{iterations // 1000}k_pascal_context_59'
    return Row(title, config, published, (), iterations, marks)


def plus(title: str, leaf: str, *figures: Any) -> Row:
    return student(f'MaskCLIP+ {title}', f'anno_free/maskclip_plus_{leaf}', *figures)


def peer(title: str, readout: str, published: float, *options: str) -> Row:
    return Row(title, SLIDE, published, (f'readout={readout}', *options))


READOUTS = {'SCLIP': 'sclip', 'NACLIP': 'naclip', 'SC-CLIP': 'scclip', 'ProxyCLIP': 'proxyclip'}
DEEPLAB, DEEPLAB_CW = 'deeplabv2_r101-d8', 'deeplabv2_r101-d8_class_weight'
GROUPS = {
    'maskclip': [
        maskclip('MaskCLIP RN50', 'maskclip/maskclip_r50', 18.46),
        maskclip('MaskCLIP ViT-B/16', 'maskclip/maskclip_vit16', 21.68),
    ],
    'class_weight': [
        maskclip('MaskCLIP RN50 + class weight', 'maskclip_text/maskclip_text_r50', 20.54),
        maskclip('MaskCLIP ViT-B/16 + class weight', 'maskclip_text/maskclip_text_vit16', 24.96),
    ],
    'plus': [
        plus('RN50, DeepLabv2', f'r50_{DEEPLAB}', 4000, 24.82),
        plus('RN50, DeepLabv2 + class weight', f'r50_{DEEPLAB_CW}', 4000, 25.96),
        plus('ViT-B/16, DeepLabv2', f'vit16_{DEEPLAB}', 4000, 31.56, (2000, 29.45), (4000, 31.56)),
        plus('ViT-B/16, DeepLabv2 + class weight', f'vit16_{DEEPLAB_CW}', 4000, 32.42),
        plus('RN50, SegFormer-b5', 'r50_segformer_b5', 8000, 22.87),
        plus(
            'ViT-B/16, SegFormer-b5',
            'vit16_segformer_b5',
            8000,
            33.88,
            (4000, 34.27),
            (8000, 33.88),
        ),
    ],
    'peers': [
        peer('MaskCLIP, 336-slide', 'maskclip_plain', 26.4),
        peer('SCLIP', 'sclip', 34.2),
        peer('ClearCLIP', 'clearclip', 35.9),
        peer('NACLIP', 'naclip', 35.2),
        peer('GEM', 'gem', 35.9),
        peer('ResCLIP', 'resclip', 36.8),
        peer('ProxyCLIP (DINO)', 'proxyclip', 39.1, DINO),
        peer('SC-CLIP', 'scclip', 40.1),
    ],
    'teachers': [
        student(f'student of {name}', f'beyond/{leaf}_vit16_segformer_b5_clip_numerics', 8000, None)
        for name, leaf in READOUTS.items()
    ],
}


def rows_of(groups: list[str]) -> list[Row]:
    """Return the rows of the groups, or of 'all'."""
    chosen = list(GROUPS) if 'all' in groups else groups
    return [row for group in chosen for row in GROUPS[group]]
