_base_ = [
    './maskclip_plus_r50_segformer_b5_480x480_8k_pascal_context_59.py',
    '../../_base_/prior_encoders/vit16_plus_original.py',
]
class_weight = dict(tau=0.25)
