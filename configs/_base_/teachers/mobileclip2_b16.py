_base_ = './maskclip.py'
model = dict(backbone=dict(model='MobileCLIP2-B', pretrained='dfndr2b'))
