# MaskCLIP's protocol: photos resized to fit into 520 x 520, tested in one piece.
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
