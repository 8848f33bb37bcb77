_base_ = ['./maskclip_plus_rn_deeplabv2.py', '../_base_/weighers/miniature_rn.py']
