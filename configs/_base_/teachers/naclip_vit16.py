_base_ = './vit16.py'
model = dict(backbone=dict(readout='naclip'))
