"""The rows of the published tables, with their configs: data only."""

from typing import NamedTuple

FREE, FREE_CW = 'maskclip', 'maskclip_text'
PLUS, STUDENTS_OF_READOUTS = 'maskclip_plus/anno_free', 'maskclip_plus/beyond'
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


def student(title: str, leaf: str, published: float | None, *marks: tuple[int, float]) -> Row:
    iterations = 4000 if '_4k_' in leaf else 8000
    folder = PLUS if leaf.startswith('maskclip_plus') else STUDENTS_OF_READOUTS
    return Row(title, f'{folder}/{leaf}_pascal_context_59', published, (), iterations, marks)


def peer(title: str, readout: str, published: float, *options: str) -> Row:
    return Row(title, SLIDE, published, (f'readout={readout}', *options))


GROUPS = {
    'maskclip': [
        Row('MaskCLIP RN50', f'{FREE}/maskclip_r50_520x520_pascal_context_59', 18.46),
        Row('MaskCLIP ViT-B/16', f'{FREE}/maskclip_vit16_520x520_pascal_context_59', 21.68),
    ],
    'class_weight': [
        Row(
            'MaskCLIP RN50 + class weight',
            f'{FREE_CW}/maskclip_text_r50_520x520_pascal_context_59',
            20.54,
        ),
        Row(
            'MaskCLIP ViT-B/16 + class weight',
            f'{FREE_CW}/maskclip_text_vit16_520x520_pascal_context_59',
            24.96,
        ),
    ],
    'plus': [
        student(
            'MaskCLIP+ RN50, DeepLabv2', 'maskclip_plus_r50_deeplabv2_r101-d8_480x480_4k', 24.82
        ),
        student(
            'MaskCLIP+ RN50, DeepLabv2 + class weight',
            'maskclip_plus_r50_deeplabv2_r101-d8_class_weight_480x480_4k',
            25.96,
        ),
        student(
            'MaskCLIP+ ViT-B/16, DeepLabv2',
            'maskclip_plus_vit16_deeplabv2_r101-d8_480x480_4k',
            31.56,
            (2000, 29.45),
            (4000, 31.56),
        ),
        student(
            'MaskCLIP+ ViT-B/16, DeepLabv2 + class weight',
            'maskclip_plus_vit16_deeplabv2_r101-d8_class_weight_480x480_4k',
            32.42,
        ),
        student('MaskCLIP+ RN50, SegFormer-b5', 'maskclip_plus_r50_segformer_b5_480x480_8k', 22.87),
        student(
            'MaskCLIP+ ViT-B/16, SegFormer-b5',
            'maskclip_plus_vit16_segformer_b5_480x480_8k',
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
        student(f'student of {name}', f'{leaf}_vit16_segformer_b5_clip_numerics_480x480_8k', None)
        for name, leaf in (
            ('SCLIP', 'sclip'),
            ('NACLIP', 'naclip'),
            ('SC-CLIP', 'scclip'),
            ('ProxyCLIP', 'proxyclip'),
        )
    ],
}


def rows_of(groups: list[str]) -> list[Row]:
    """Return the rows of the groups, or of 'all'."""
    chosen = list(GROUPS) if 'all' in groups else groups
    return [row for group in chosen for row in GROUPS[group]]
