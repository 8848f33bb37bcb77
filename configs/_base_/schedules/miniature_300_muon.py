# As `miniature_300.py`, with Muon for matrices and kernels.
_base_ = './miniature_300.py'
optim_wrapper = dict(optimizer=dict(_delete_=True, type='MuonAdamW', lr=5e-3, weight_decay=0.01))
