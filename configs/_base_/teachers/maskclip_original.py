_base_ = './maskclip.py'
# Settings of the published figures (docs/quirks.md): ImageNet's mean and std before CLIP
# (Q3), key smoothing over positions without row sums (Q1, Q13), scores resized twice (Q15).
model = dict(
    resize_twice=True,
    backbone=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    decode_head=dict(ks_over='positions', ks_normalize_rows=False, pd_spare_empty=False),
)
