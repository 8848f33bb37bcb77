_base_ = [
    '../_base_/datasets/miniature_captions.py',
    '../_base_/schedules/clip_muon.py',
    '../_base_/train_runtime.py',
]
model = dict(type='ClipPretraining', model='miniature-vit')
train_cfg = dict(max_iters=4000)
default_hooks = dict(checkpoint=dict(interval=250, save_best='R@1', rule='greater'))
