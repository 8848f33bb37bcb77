_base_ = './maskclip.py'
model = dict(backbone=dict(model='PE-Core-B-16', pretrained='meta'))
