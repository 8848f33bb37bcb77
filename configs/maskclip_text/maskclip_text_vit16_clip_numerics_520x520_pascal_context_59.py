_base_ = [
    '../maskclip/maskclip_vit16_clip_numerics_520x520_pascal_context_59.py',
    '../_base_/prior_encoders/vit16.py',
]
class_weight = dict(tau=1.0, prior_encoder=None)  # the backbone is the same CLIP
