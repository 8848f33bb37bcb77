_base_ = './adamw_8k.py'
# As published (Q16): 'head' is tried before 'norm', so the head's norms decay, and so do biases.
optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        custom_keys=dict(
            pos_block=dict(decay_mult=0.0), norm=dict(decay_mult=0.0), head=dict(lr_mult=10.0)
        ),
    ),
)
