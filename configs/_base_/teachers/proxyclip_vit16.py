_base_ = './vit16.py'
# ProxyCLIP: affinities between patches come from DINO.
model = dict(
    backbone=dict(
        readout='proxyclip', proxy=dict(model='vit_base_patch8_224.dino', pretrained='timm')
    )
)
