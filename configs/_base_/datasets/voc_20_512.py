# MaskCLIP's protocol on VOC: photos with a short side of 512, tested in one piece.
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
