_base_ = '../../configs/_base_/default_runtime.py'
mini = '../shared/mini/'
vocabulary = 'voc_20'
test_dataloader = dict(
    batch_size=4,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='PascalVOCDataset',
        data_root=mini + 'voc20_mini',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeShortSide', size=448, multiple=32),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
model = dict(
    type='MaskClip',
    backbone=dict(
        type='CLIPDenseExtractor',
        model=mini + 'model_config.json',
        pretrained=mini + 'visual.safetensors',
    ),
    decode_head=dict(type='MaskClipHead', text=dict(file=mini + 'text_voc20.npy')),
)
del mini
