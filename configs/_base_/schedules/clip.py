# CLIP's AdamW: warm-up, cosine to 0 at the iterations of the leaf.
train_cfg = dict(type='StreamTrainLoop', val_interval=500)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MatrixDecayConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1),
    paramwise_cfg=dict(lr_mult=dict(clip=1.0)),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=60, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=60, by_epoch=False),
]
