_base_ = ['./maskclip_plus_vit_segformer_b0.py', '../_base_/weighers/miniature_vit.py']
