# Training crops of the published recipe, without labels. As published (Q11), masks only tell which
# pixels are void; dataset.ann_dir=None trains without any masks.
unseen = 'all'
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadAnnotations', suppress_labels='unseen'),
            dict(type='RandomResize', scale=(520, 520), ratio_range=(0.5, 2.0)),
            dict(type='RandomCrop', size=480, cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ]
    ),
)
