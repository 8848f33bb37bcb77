# 300 iterations of the masked autoencoder's AdamW at batch 32: warm-up, cosine to 0.
train_cfg = dict(type='StreamTrainLoop', max_iters=300)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MatrixDecayConstructor',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(lr_mult=dict(proxy=1.0)),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.03, begin=0, end=30, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=30, by_epoch=False),
]
