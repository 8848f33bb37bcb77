# Scenes without masks to train students on, scenes with masks to validate them on.
_base_ = './miniature.py'
unseen = 'all'
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(
        type='MiniatureDataset',
        world=2,
        scenes=4000,
        pipeline=[
            dict(type='RenderScene', masks=False),
            dict(type='Unlabeled'),
            dict(type='RandomResize', scale=(128, 128), ratio_range=(1.0, 1.5)),
            dict(type='RandomCrop', size=128),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = _base_.test_dataloader
val_cfg = dict()
val_evaluator = dict(type='IoUMetric')
