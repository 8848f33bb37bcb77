# The first three of a ResNet-10's four stages, from scratch, with SegFormer's head.
model = dict(
    type='MaskClipPlus',
    backbone=dict(type='TimmBackbone', model='resnet10t', out_indices=(1, 2, 3)),
    decode_head=dict(type='SegformerHead', dropout=0.1),
)
