# SegFormer-b0; its head is as wide as the text.
model = dict(
    type='MaskClipPlus',
    backbone=dict(type='MixVisionTransformer', size='b0', pretrained='pretrain/mit_b0.pth'),
    decode_head=dict(type='SegformerHead', dropout=0.1),
)
