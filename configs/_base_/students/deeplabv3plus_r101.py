# DeepLabv3+ on ResNet-101 V1c at output stride 8; its head is as wide as the text.
model = dict(
    type='MaskClipPlus',
    backbone=dict(
        type='TimmBackbone',
        model='resnet101c',
        out_indices=(1, 4),
        output_stride=8,
        pretrained=True,
    ),
    decode_head=dict(type='DepthwiseSeparableASPPHead', dropout=0.1),
)
