_base_ = ['./maskclip_plus_rn_segformer_b0.py', '../_base_/prior_encoders/miniature_rn.py']
