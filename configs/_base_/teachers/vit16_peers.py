# CLIP ViT-B/16 as the training-free peers run it: text of its 80 ImageNet templates, the best of
# a class's names, positions resized by (n + 0.1) / 14.
_base_ = './vit16.py'
readout = 'maskclip'
model = dict(
    backbone=dict(positions='factor'),
    decode_head=dict(text=dict(templates='imagenet80')),
    scoring=dict(synonyms='max', scale=40),
)
