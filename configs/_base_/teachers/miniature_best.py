# The best free labels of docs/leaderboard.md: image cosines blended in, PAMR.
_base_ = './miniature_rn.py'
class_weight = dict(
    type='ClassWeight', mode='blend', alpha=0.4, crop_size=64, text=_base_.model.decode_head.text
)
model = dict(post=dict(type='PAMR', steps=20, dilations=(2, 4, 8, 16)))
