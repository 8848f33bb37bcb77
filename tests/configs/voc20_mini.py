# 150 photos of PASCAL VOC, at the input size that the small tower was made for.
vocabulary = 'voc_20'
test_dataloader = dict(
    batch_size=4,
    num_workers=2,
    sampler=dict(type='SizeSampler'),
    dataset=dict(
        type='PascalVOCDataset',
        data_root='../shared/mini/voc20_mini',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeShortSide', size=448, multiple=32),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
