_base_ = '../anno_free/maskclip_plus_vit16_deeplabv2_r101-d8_clip_numerics_480x480_4k_pascal_context_59.py'
teacher = '../../_base_/teachers/sclip_vit16.py'
