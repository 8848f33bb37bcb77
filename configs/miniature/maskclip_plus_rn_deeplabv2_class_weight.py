_base_ = ['./maskclip_plus_rn_deeplabv2.py', '../_base_/prior_encoders/miniature_rn.py']
