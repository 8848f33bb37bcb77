_base_ = ['./maskclip_plus_vit_deeplabv2.py', '../_base_/weighers/miniature_vit.py']
