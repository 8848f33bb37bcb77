# As `miniature.py`, at the size that scenes are rendered in, on which the ViT was trained.
_base_ = './miniature.py'
test_dataloader = dict(
    dataset=dict(pipeline=[dict(type='RenderScene'), dict(type='PackSegInputs')])
)
