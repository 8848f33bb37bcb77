_base_ = (
    '../anno_free/maskclip_plus_vit16_segformer_b5_clip_numerics_480x480_8k_pascal_context_59.py'
)
teacher = '../../_base_/teachers/laion_vit16.py'
