# Rendered scenes with captions, without masks; 500 other pairs to test retrieval on.
vocabulary = 'miniature'
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(
        type='MiniatureDataset',
        scenes=60000,
        keep=True,
        pipeline=[
            dict(type='RenderScene', masks=False, captions=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='MiniatureDataset',
        world=1,
        scenes=500,
        pipeline=[dict(type='RenderScene', masks=False, captions=True), dict(type='PackSegInputs')],
    ),
)
val_cfg = dict()
val_evaluator = dict(type='RetrievalMetric')
