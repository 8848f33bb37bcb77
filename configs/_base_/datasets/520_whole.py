# MaskCLIP's protocol: the photo inside 520 x 520, its ratio kept, in one piece.
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='SizeSampler'),
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='Resize', scale=(520, 520)),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ]
    ),
)
