# Photos without labels, here the two of demo/scenes. Name your own by
# --cfg-options test_dataloader.dataset.data_root=FOLDER
_base_ = './520_whole.py'
vocabulary = 'pascal_context_59'
test_dataloader = dict(dataset=dict(type='ImageFolderDataset', data_root='../../../demo/scenes'))
