# As `miniature.py`, at the size that the scenes are drawn in: what the ViT was trained for.
_base_ = './miniature.py'
test_dataloader = dict(
    dataset=dict(pipeline=[dict(type='RenderScene'), dict(type='PackSegInputs')])
)
