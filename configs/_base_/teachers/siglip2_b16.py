_base_ = './maskclip.py'
model = dict(backbone=dict(model='ViT-B-16-SigLIP2', pretrained='webli'))
