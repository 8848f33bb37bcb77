_base_ = './clip_rn.py'
# A sigmoid tower (SigLIP's loss) from a trained tower: the shipped one, or `model.pretrained`.
model = dict(pretrained='miniature', loss='sigmoid')
train_cfg = dict(max_iters=1000)
