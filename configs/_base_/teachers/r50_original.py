_base_ = './maskclip_original.py'
# The original drops rows and columns beyond a multiple of 32 (Q20).
model = dict(backbone=dict(model='RN50-quickgelu', pad=False))
