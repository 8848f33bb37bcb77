_base_ = './maskclip_original.py'
# The original drops what is left of the photo beyond a multiple of 32.
model = dict(backbone=dict(model='RN50-quickgelu', pad=False))
