_base_ = ['./pascal_context_59.py', './480x480_unlabeled.py']
train_dataloader = dict(
    dataset=dict(type='PascalContextDataset59', split='ImageSets/SegmentationContext/train.txt')
)
val_dataloader = _base_.test_dataloader
val_cfg = dict()
val_evaluator = dict(type='IoUMetric')
