# 500 scenes of the rendered world, with their exact masks, shown at twice their size.
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
