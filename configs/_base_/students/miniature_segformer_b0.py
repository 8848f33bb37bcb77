_base_ = './segformer_b0.py'
model = dict(backbone=dict(pretrained=None))
