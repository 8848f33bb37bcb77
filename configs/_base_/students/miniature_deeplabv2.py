# A small DeepLabv2 from scratch: ResNet-10 at output stride 8.
model = dict(
    type='MaskClipPlus',
    backbone=dict(type='TimmBackbone', model='resnet10t', out_indices=(4,), output_stride=8),
    decode_head=dict(type='ASPPHeadV2', dilations=(1, 2, 4, 6), dropout=0.1),
)
