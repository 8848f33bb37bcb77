# Training runs of the miniature, of 300 iterations.
_base_ = './train_runtime.py'
default_hooks = dict(checkpoint=dict(interval=100))
