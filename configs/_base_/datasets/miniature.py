# 500 rendered scenes with exact masks, at twice the size that they are rendered in.
vocabulary = 'miniature'
test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='MiniatureDataset',
        world=1,
        scenes=500,
        pipeline=[
            dict(type='RenderScene'),
            dict(type='Resize', scale=(128, 128)),
            dict(type='PackSegInputs'),
        ],
    ),
)
