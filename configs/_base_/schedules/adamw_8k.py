# 8,000 iterations of AdamW at batch 8: linear warm-up from 1e-6 of the rate, linear decay to 0.
# Norms and biases do not decay; the head learns ten times as fast.
train_cfg = dict(type='StreamTrainLoop', max_iters=8000, val_interval=800)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MatrixDecayConstructor',
    optimizer=dict(type='AdamW', lr=2.4e-5, betas=(0.9, 0.999), weight_decay=0.004),
    paramwise_cfg=dict(lr_mult=dict(decode_head=10.0)),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1501, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, by_epoch=False),
]
