_base_ = './520_whole.py'
vocabulary = 'voc_20'
test_dataloader = dict(dataset=dict(type='PascalVOCDataset'))
