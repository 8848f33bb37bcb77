_base_ = './maskclip_original.py'
# GELU and LayerNorm epsilon of the original's ViT (Q3), keys after the output projection (Q2).
model = dict(
    backbone=dict(model='ViT-B-16-quickgelu', act='gelu', norm_eps=1e-6, project_keys=True)
)
