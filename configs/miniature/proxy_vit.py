# Pretrain the proxy of `readout='proxyclip'`: 256 patches of 4 pixels, enlarged to 16.
_base_ = [
    '../_base_/datasets/miniature_images.py',
    '../_base_/schedules/mae_300.py',
    '../_base_/train_runtime.py',
]
model = dict(type='MaskedAutoencoder', model='test_vit', patch=4, side=16)
default_hooks = dict(checkpoint=dict(interval=300, save_best=None, rule=None))
