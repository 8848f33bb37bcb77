# 4,000 iterations of SGD at batch 8, polynomial decay to 1e-4 (at batch 16: lr 0.01, decay 5e-4).
train_cfg = dict(type='StreamTrainLoop', max_iters=4000, val_interval=400)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=2.5e-4)
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, by_epoch=False)]
