_base_ = './vit16.py'
# As published: weights that sum to 1 (Q5) on signed scores (Q4), text rows not renormalised (Q9).
class_weight = dict(sum_to_one=True, signed=True, text=dict(renormalize=False))
