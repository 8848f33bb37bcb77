# As `clip.py`, with Muon for the matrices of the blocks; AdamW keeps the others, at 1e-3.
_base_ = './clip.py'
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='MuonAdamW', lr=5e-3, weight_decay=0.1),
    paramwise_cfg=dict(adamw=['embedding', 'conv1', 'visual.proj', 'text_projection']),
)
