_base_ = [
    '../maskclip/maskclip_r50_clip_numerics_520x520_pascal_context_59.py',
    '../_base_/prior_encoders/vit16.py',
]
class_weight = dict(tau=0.25)
