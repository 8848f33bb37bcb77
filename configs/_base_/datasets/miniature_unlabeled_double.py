# As `miniature_unlabeled.py`, 2,000 scenes at exactly twice the size that they are rendered in.
_base_ = './miniature_unlabeled.py'
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        scenes=2000,
        pipeline=[
            dict(type='RenderScene', masks=False),
            dict(type='Unlabeled'),
            dict(type='RandomResize', scale=(128, 128), ratio_range=(1.0, 1.0)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
