_base_ = ['./maskclip_plus_vit_segformer_b0.py', '../_base_/prior_encoders/miniature_vit.py']
