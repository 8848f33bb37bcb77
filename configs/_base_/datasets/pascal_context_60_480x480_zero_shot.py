_base_ = ['./pascal_context_60.py', './480x480_unlabeled.py']
# Ten classes without masks (Xian et al., CVPR 2019); the background is a class with masks.
unseen = [
    'cow',
    'motorbike',
    'sofa',
    'cat',
    'boat',
    'fence',
    'bird',
    'tvmonitor',
    'keyboard',
    'aeroplane',
]
train_dataloader = dict(
    batch_size=6,
    dataset=dict(type='PascalContextDataset', split='ImageSets/SegmentationContext/train.txt'),
)
val_dataloader = _base_.test_dataloader
val_cfg = dict()
val_evaluator = dict(type='IoUMetric')
