"""The options of the leaderboard, and published figures: data only."""

from typing import Any

MEASURED = 'measured'  # stands for the file of a seed
PROXY = 'proxy'  # stands for the weights of a seed's proxy
VIEWS = 'views'  # stands for the folder of labels that a seed's teacher wrote
PHOTOS = '../shared/mini'  # real photos and a small tower, if they are there
COMBINATION = 'the best combination'
SECOND = 'second network'
TAUS = (0.25, 0.5, 1.0, 2.0)
THRESHOLDS = (0.3, 0.6, 0.9)


Options = dict[str, Any]


def readout(name: str, **switches: Any) -> Options:
    return {'model.backbone.readout': dict(preset=name, **switches) if switches else name}


def proxyclip(**switches: Any) -> Options:
    proxy = dict(model='test_vit', pretrained=PROXY, parts=2)
    return readout('proxyclip', **switches) | {'model.backbone.proxy': proxy}


def prior(**settings: Any) -> Options:
    weight = dict(type='ClassWeight', crop_size=64, text=dict(templates='miniature'), **settings)
    return {'class_weight': weight}


def prior_of_photos(**settings: Any) -> Options:
    text = dict(file=f'{PHOTOS}/text_voc20.npy')
    return {'class_weight': dict(type='ClassWeight', crop='image', text=text, **settings)}


def shown_at(size: int) -> Options:
    return {'protocol': dict(scale=(size, size))}


def pamr(steps: int, *dilations: int) -> Options:
    return {'model.post': dict(type='PAMR', steps=steps, dilations=dilations)}


def superpixels(segments: int) -> Options:
    return {'model.post': dict(type='Superpixels', segments=segments)}


BARE, WHOLE = dict(residual=False, mlp=False), dict(residual=True, mlp=True)
REFINEMENTS = {
    'prompt denoising': [{'model.decode_head.pd_thresh': t} for t in THRESHOLDS],
    'key smoothing': [{'model.decode_head.ks_thresh': t} for t in (*THRESHOLDS, 1.0)],
}

# family -> {option: variants, each a dict of `--cfg-options`}. Of a family a model has one option.
# The shown variant of an option and the best combination are chosen on the validation scenes.
# Options of SECOND replace a readout and need another network than CLIP.
FAMILIES = {
    'readout': {
        'value, no residual, no MLP': [readout('maskclip_plain')],
        'plain attention q-k': [readout('clip'), readout('clip', **BARE)],
        'q-q + k-k (SCLIP)': [readout('sclip'), readout('sclip', **BARE)],
        'q-q (ClearCLIP)': [readout('clearclip'), readout('clearclip', **WHOLE)],
        'k-k, neighbours (NACLIP)': [
            readout('naclip', gaussian=sigma, **parts)
            for sigma in (1.0, 2.0, 5.0)
            for parts in (BARE, WHOLE)
        ],
        'self-self at depths (GEM)': [readout('gem')],
        'early attention, feedback (ResCLIP)': [readout('resclip'), readout('resclip', **WHOLE)],
        'repair, layers fused (SC-CLIP)': [readout('scclip'), readout('scclip', **WHOLE)],
    },
    SECOND: {
        'proxy attention (ProxyCLIP)': [
            proxyclip(),
            proxyclip(**WHOLE),
            *(proxyclip(gain=gain) for gain in (10.0, 40.0)),
        ]
    },
    'prior': {
        'class weight': [prior(tau=tau) for tau in TAUS],
        'class weight minus means': [prior(tau=tau, mean_similarity=MEASURED) for tau in TAUS],
        'log weight added': [prior(tau=tau, mode='add') for tau in (0.02, 0.05, 0.1, 0.25)],
        'image cosines blended in (CASS)': [
            prior(mode='blend', alpha=alpha) for alpha in (0.1, 0.25, 0.5)
        ],
        'top classes only': [prior(mode='topk', k=k) for k in (3, 5, 7)],
    },
    'input': {
        'another input size': [shown_at(size) for size in (96, 128)],
        'windows on larger input': [
            shown_at(size) | {'model.windows': dict(size=64, stride=32)} for size in (96, 128)
        ],
    },
    'refinement': REFINEMENTS,
    'post': {
        'PAMR': [pamr(10, 8, 16), pamr(10, 1, 2, 4), pamr(20, 1, 2, 4, 8), pamr(20, 2, 4, 8, 16)],
        'superpixels': [superpixels(segments) for segments in (50, 100)],
    },
}

# The ResNet has no attention blocks to read out; its config shows it scenes of 96 pixels.
RESNET_FAMILIES = {
    'prior': FAMILIES['prior'],
    'input': {'another input size': [shown_at(size) for size in (64, 128, 160)]},
    'refinement': REFINEMENTS,
    'post': FAMILIES['post'],
}

# The same on real photos, for a tower that has no attention blocks to read out.
PHOTO_FAMILIES = {
    'prior': {
        'class weight': [prior_of_photos(tau=tau) for tau in (0.05, 0.1, 0.25)],
        'log weight added': [prior_of_photos(tau=tau, mode='add') for tau in (0.02, 0.05)],
        'image cosines blended in (CASS)': [
            prior_of_photos(mode='blend', alpha=alpha) for alpha in (0.25, 0.5)
        ],
        'top classes only': [prior_of_photos(mode='topk', k=k) for k in (2, 4)],
    },
    'refinement': {
        'prompt denoising': [{'model.decode_head.pd_thresh': 0.6}],
        'key smoothing': [{'model.decode_head.ks_thresh': t} for t in (0.6, 1.0)],
    },
    'post': {'PAMR': [pamr(10, 8, 16)], 'superpixels': [superpixels(400)]},
}

# Options of the training of the ResNet's students: `--cfg-options` of their config
# (docs/students.md). Every teacher has a student by the first, the best one by the others too.
PUBLISHED_TRAINING = 'as published'
SWITCHES = {
    PUBLISHED_TRAINING: {},
    'confidence': {'model.robust_loss.confidence_power': 1.0},
    'balance': {'model.robust_loss.balance': 0.5},
    'smoothing': {'model.robust_loss.smoothing': 0.1},
    'generalised cross entropy': {'model.robust_loss.gce': 0.7},
    'labels of six views, written once': {'pseudo_labels': VIEWS},
    'running average labels the last third': {
        'model.start_clip_guided': (1, 100),
        'model.start_self_train': (101, -1),
        'model.ema_momentum': 0.02,
        'model.self_thresh': 0.5,
    },
}

# The student of tools/miniature.py: of precomputed labels of the best combination, whose PAMR works
# on whole photos only. `student` names another config.
WRITTEN_TRAINING = 'written once, balance, ResNet-10, 300 iterations'
WRITTEN: Options = {'student': 'maskclip_plus_rn_resnet10.py', 'train_cfg.max_iters': 300}
DISTILLED_TRAINING = '`maskclip distill` of 400 scenes, ResNet-10, 300 iterations'
DISTILLED: Options = {**WRITTEN, 'distill': 400}

# Options of the same names with CLIP's ViT-B/16: a config, and `--cfg-options`.
PLAIN = 'maskclip/maskclip_vit16_clip_numerics_520x520_pascal_context_59.py'
WEIGHED = 'maskclip_text/maskclip_text_vit16_clip_numerics_520x520_pascal_context_59.py'
WINDOWS = ['model.windows.size=224', 'model.windows.stride=112']  # of the peers, in 520 x 390: 12
SPEEDS = {
    'MaskCLIP': (PLAIN, []),
    'value, no residual, no MLP': (PLAIN, ['model.backbone.readout=maskclip_plain']),
    'plain attention q-k': (PLAIN, ['model.backbone.readout=clip']),
    'q-q + k-k (SCLIP)': (PLAIN, ['model.backbone.readout=sclip']),
    'q-q (ClearCLIP)': (PLAIN, ['model.backbone.readout=clearclip']),
    'k-k, neighbours (NACLIP)': (PLAIN, ['model.backbone.readout=naclip']),
    'self-self at depths (GEM)': (PLAIN, ['model.backbone.readout=gem']),
    'early attention, feedback (ResCLIP)': (PLAIN, ['model.backbone.readout=resclip']),
    'repair, layers fused (SC-CLIP)': (PLAIN, ['model.backbone.readout=scclip']),
    'proxy attention (ProxyCLIP)': (
        PLAIN,
        [
            'model.backbone.readout=proxyclip',
            'model.backbone.proxy.model=vit_base_patch8_224.dino',
            'model.backbone.proxy.pretrained=random',
        ],
    ),
    'class weight': (WEIGHED, []),
    'log weight added': (WEIGHED, ['class_weight.mode=add']),
    'image cosines blended in (CASS)': (WEIGHED, ['class_weight.mode=blend']),
    'top classes only': (WEIGHED, ['class_weight.mode=topk', 'class_weight.k=7']),
    'windows on larger input': (PLAIN, WINDOWS),
    'prompt denoising': (PLAIN, ['model.decode_head.pd_thresh=0.3']),
    'key smoothing': (PLAIN, ['model.decode_head.ks_thresh=1.0']),
    'PAMR': (PLAIN, ['model.post.type=PAMR']),
    'superpixels': (PLAIN, ['model.post.type=Superpixels']),
    COMBINATION: (
        WEIGHED,
        [
            'model.backbone.readout=naclip',
            'class_weight.mode=blend',
            *WINDOWS,
            'model.post.type=PAMR',
        ],
    ),
}

# Authors' figures: Context-59 / Context-60 mIoU with OpenAI's ViT-B/16.
PUBLISHED = [
    ('MaskCLIP, 520-whole', '21.7', ''),
    ('MaskCLIP + class weight, 520-whole', '25.0', ''),
    ('MaskCLIP', '26.4', '23.2'),
    ('SCLIP', '34.2', '30.4'),
    ('NACLIP', '35.2', '32.2'),
    ('NACLIP + PAMR', '38.4', ''),
    ('ClearCLIP', '35.9', '32.6'),
    ('GEM', '35.9', '32.6'),
    ('ResCLIP', '36.8', '33.5'),
    ('ProxyCLIP (DINO)', '39.1', '35.3'),
    ('SC-CLIP', '40.1', '36.8'),
    ('CASS (DINO)', '40.2', '36.7'),
    ('Trident (SAM)', '42.2', '38.6'),
    ('CorrCLIP (SAM2)', '47.1', '41.6'),
    ('MaskCLIP+ ViT-B/16, SegFormer-b5 student', '33.9', ''),
    ('ReCLIP++ (trained on unlabelled photos)', '36.1', ''),
    ('supervised DeepLabV3-R101', '52.6', ''),
]

# The rows of tools/reproduce.py that measure some of them.
SLIDE = 'vit16_336_slide_pascal_context_59'
ROWS_HERE = {
    'MaskCLIP, 520-whole': 'maskclip_vit16_520x520_pascal_context_59',
    'MaskCLIP + class weight, 520-whole': 'maskclip_text_vit16_520x520_pascal_context_59',
    'MaskCLIP': f'{SLIDE}-maskclip_plain',
    'SCLIP': f'{SLIDE}-sclip',
    'NACLIP': f'{SLIDE}-naclip',
    'ClearCLIP': f'{SLIDE}-clearclip',
    'GEM': f'{SLIDE}-gem',
    'ResCLIP': f'{SLIDE}-resclip',
    'ProxyCLIP (DINO)': f'{SLIDE}-proxyclip',
    'SC-CLIP': f'{SLIDE}-scclip',
    'MaskCLIP+ ViT-B/16, SegFormer-b5 student': (
        'maskclip_plus_vit16_segformer_b5_480x480_8k_pascal_context_59'
    ),
}

# Of these, authors' Context-59 mIoU of methods that are options here, in their own protocol.
PUBLISHED_READOUTS = {
    'MaskCLIP': 26.4,
    'q-q + k-k (SCLIP)': 34.2,
    'q-q (ClearCLIP)': 35.9,
    'k-k, neighbours (NACLIP)': 35.2,
    'self-self at depths (GEM)': 35.9,
    'early attention, feedback (ResCLIP)': 36.8,
    'repair, layers fused (SC-CLIP)': 40.1,
    'proxy attention (ProxyCLIP)': 39.1,
}
