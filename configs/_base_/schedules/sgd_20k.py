_base_ = './sgd_4k.py'
train_cfg = dict(max_iters=20000, val_interval=2000)
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=5e-4))
