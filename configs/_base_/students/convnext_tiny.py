# ConvNeXt-tiny with SegFormer's head. Any timm backbone works with any decode head.
model = dict(
    type='MaskClipPlus',
    backbone=dict(type='TimmBackbone', model='convnext_tiny', pretrained=True),
    decode_head=dict(type='SegformerHead', dropout=0.1),
)
