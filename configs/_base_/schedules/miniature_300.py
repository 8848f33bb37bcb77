# 300 iterations of AdamW from scratch.
train_cfg = dict(type='StreamTrainLoop', max_iters=300, val_interval=1000)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MatrixDecayConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    paramwise_cfg=dict(lr_mult=dict(decode_head=1.0)),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, by_epoch=False),
]
