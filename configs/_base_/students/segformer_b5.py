# SegFormer-b5; its head is as wide as the text.
model = dict(
    type='MaskClipPlus',
    backbone=dict(type='MixVisionTransformer', size='b5', pretrained='pretrain/mit_b5.pth'),
    decode_head=dict(type='SegformerHead', dropout=0.1),
)
