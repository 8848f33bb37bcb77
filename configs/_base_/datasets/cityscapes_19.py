# Photos of 2048 x 1024 at half their size.
_base_ = './520_whole.py'
vocabulary = 'cityscapes'
test_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='Resize', scale=(1024, 512)),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    )
)
