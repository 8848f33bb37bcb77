# The best combination of docs/leaderboard.md without a second network: NACLIP's attention without
# residual and MLP, image cosines blended in, PAMR.
_base_ = './miniature_vit.py'
readout = dict(preset='naclip', gaussian=2.0, residual=False, mlp=False)
class_weight = dict(
    type='ClassWeight', mode='blend', alpha=0.5, crop_size=64, text=_base_.model.decode_head.text
)
model = dict(post=dict(type='PAMR', steps=10, dilations=(1, 2, 4)))
