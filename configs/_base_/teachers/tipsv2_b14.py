_base_ = './maskclip.py'
# TIPSv2 of transformers, which names its own architecture; patches of 14 pixels.
model = dict(backbone=dict(pretrained='hf:google/tipsv2-b14'))
