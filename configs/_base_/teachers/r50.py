_base_ = './maskclip.py'
model = dict(backbone=dict(model='RN50-quickgelu'))
