_base_ = ['./maskclip_plus_vit_deeplabv2.py', '../_base_/prior_encoders/miniature_vit.py']
