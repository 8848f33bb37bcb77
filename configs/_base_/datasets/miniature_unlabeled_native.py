# As `miniature_unlabeled.py`, at the size that scenes are rendered in.
_base_ = ['./miniature_unlabeled.py', '../protocols/miniature_64.py']
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RenderScene', masks=False),
            dict(type='Unlabeled'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ]
    )
)
