# ConvNeXt-tiny under SegFormer's head: any timm backbone goes under any head.
model = dict(
    type='MaskClipPlus',
    backbone=dict(type='TimmBackbone', model='convnext_tiny', pretrained=True),
    decode_head=dict(type='SegformerHead', dropout=0.1),
)
