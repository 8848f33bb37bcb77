# EfficientNet-lite0 with SegFormer's head on strides of 8 and more, a student for CPUs.
model = dict(
    type='MaskClipPlus',
    backbone=dict(
        type='TimmBackbone', model='efficientnet_lite0', pretrained=True, out_indices=(2, 3, 4)
    ),
    decode_head=dict(type='SegformerHead', dropout=0.1),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
