# CLIP ViT-B/16 as other training-free methods run it: text from CLIP's 80 ImageNet templates, the
# best score of a class's names, position embeddings resized by (n + 0.1) / 14.
_base_ = './vit16.py'
readout = 'maskclip'
model = dict(
    backbone=dict(positions='factor'),
    decode_head=dict(text=dict(templates='imagenet80')),
    scoring=dict(synonyms='max', scale=40),
)
