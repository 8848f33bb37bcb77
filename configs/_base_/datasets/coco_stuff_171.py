_base_ = './520_whole.py'
vocabulary = 'coco_stuff_171'
test_dataloader = dict(dataset=dict(type='COCOStuffDataset'))
