_base_ = './voc_20_512.py'
# Five of the 20 classes without masks; 10,582 training photos with SBD's masks (BharathICCV2011).
unseen = ['pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor']
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(
        type='PascalVOCDataset',
        ann_dir='SegmentationClassAug',
        split='ImageSets/Segmentation/trainaug.txt',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadAnnotations', suppress_labels='unseen'),
            dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0)),
            dict(type='RandomCrop', size=512, cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = _base_.test_dataloader
val_cfg = dict()
val_evaluator = dict(type='IoUMetric')
