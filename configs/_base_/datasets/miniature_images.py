# Rendered scenes without captions and without masks.
vocabulary = 'miniature'
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(
        type='MiniatureDataset',
        scenes=8000,
        pipeline=[
            dict(type='RenderScene', masks=False),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
