_base_ = [
    '../maskclip/maskclip_r50_520x520_pascal_context_59.py',
    '../_base_/prior_encoders/vit16_original.py',
]
class_weight = dict(tau=0.25)
