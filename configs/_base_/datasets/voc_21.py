_base_ = './520_whole.py'
vocabulary = 'voc_21'
test_dataloader = dict(dataset=dict(type='PascalVOCDataset'))
