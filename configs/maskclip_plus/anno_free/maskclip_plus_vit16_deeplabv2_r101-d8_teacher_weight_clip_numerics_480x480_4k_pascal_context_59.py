# The class weight improves the teacher's labels, so the student needs no CLIP at test time.
_base_ = './maskclip_plus_vit16_deeplabv2_r101-d8_clip_numerics_480x480_4k_pascal_context_59.py'
teacher = '../../maskclip_text/maskclip_text_vit16_clip_numerics_520x520_pascal_context_59.py'
