_base_ = './vit16.py'
# DINO says which patches belong together.
model = dict(
    backbone=dict(
        readout='proxyclip', proxy=dict(model='vit_base_patch8_224.dino', pretrained='timm')
    )
)
