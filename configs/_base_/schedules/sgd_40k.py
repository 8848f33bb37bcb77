_base_ = './sgd_4k.py'
train_cfg = dict(max_iters=40000, val_interval=4000)
optim_wrapper = dict(optimizer=dict(lr=0.004, weight_decay=1e-4))
