_base_ = './520_whole.py'
vocabulary = 'ade20k'
test_dataloader = dict(dataset=dict(type='ADE20KDataset'))
