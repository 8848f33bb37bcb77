# Photos of a folder to train on. `maskclip distill` names the folders of photos and labels.
_base_ = './image_folder.py'
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(
        type='ImageFolderDataset',
        data_root=None,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadAnnotations', suppress_labels='ignored'),
            dict(type='RandomResize', scale=(520, 520), ratio_range=(0.75, 1.5)),
            dict(type='RandomCrop', size=384),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ],
    ),
)
