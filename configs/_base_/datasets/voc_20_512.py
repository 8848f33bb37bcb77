# MaskCLIP's protocol on VOC: short side 512, the photo in one piece.
_base_ = './voc_20.py'
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='Resize', scale=(2048, 512)),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ]
    )
)
