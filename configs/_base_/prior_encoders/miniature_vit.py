_base_ = './miniature_rn.py'
class_weight = dict(prior_encoder=dict(model='miniature-vit'))
