# Muon steps the matrices of the blocks, AdamW the others at a learning rate of 1e-3.
_base_ = [
    '../_base_/datasets/miniature_captions.py',
    '../_base_/schedules/clip.py',
    '../_base_/train_runtime.py',
]
model = dict(type='ClipPretraining', model='miniature-vit')
train_cfg = dict(max_iters=4000)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='MuonAdamW', lr=5e-3, weight_decay=0.1),
    paramwise_cfg=dict(adamw=['embedding', 'conv1', 'visual.proj', 'text_projection']),
)
default_hooks = dict(checkpoint=dict(interval=250, save_best='R@1', rule='greater'))
