# The class weight improves the teacher's labels, so the student needs no CLIP at test time.
_base_ = './maskclip_plus_r50_segformer_b5_clip_numerics_480x480_8k_pascal_context_59.py'
teacher = '../../maskclip_text/maskclip_text_r50_clip_numerics_520x520_pascal_context_59.py'
