_base_ = './520_whole.py'
vocabulary = 'coco_object_81'
test_dataloader = dict(dataset=dict(type='COCOObjectDataset'))
