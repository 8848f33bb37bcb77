_base_ = './maskclip.py'
model = dict(backbone=dict(model='ViT-B-16', pretrained='laion2b_s34b_b88k'))
