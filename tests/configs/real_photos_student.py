_base_ = [
    '../../configs/_base_/train_runtime.py',
    '../../configs/_base_/schedules/adamw_8k.py',
    './voc20_mini.py',
]
mini = '../shared/mini/'
teacher = 'real_photos_base.py'
model = dict(
    type='MaskClipPlus',
    backbone=dict(
        type='TimmBackbone',
        model='tf_efficientnet_lite0',
        pretrained=mini + 'visual.safetensors',
        prefix='trunk.',
        out_indices=(2, 3, 4),
    ),
    decode_head=dict(type='SegformerHead', dropout=0.1),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    drop_last=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(
        type='PascalVOCDataset',
        data_root=mini + 'voc20_mini',
        ann_dir=None,
        split='ImageSets/Segmentation/train.txt',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='Unlabeled'),
            dict(type='RandomResize', scale=(448, 448), ratio_range=(0.75, 1.5)),
            dict(type='RandomCrop', size=288),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = _base_.test_dataloader
val_cfg = dict()
val_evaluator = dict(type='IoUMetric')
train_cfg = dict(max_iters=400, val_interval=200)
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=31, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=200))
del mini
