# Only the head learns, on nearly whole photos, from labels that the class weight lifted. Write
# these first: docs/students.md.
_base_ = './real_photos_student.py'
pseudo_labels = 'work_dirs/real_photos_labels'
model = dict(
    backbone=dict(out_indices=(4,), frozen=True),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead', dilations=(1, 3, 6), dropout=0.3, _delete_=True
    ),
    robust_loss=dict(balance=1.0, balance_most=50.0),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='Unlabeled'),
            dict(type='RandomResize', scale=(2048, 448), ratio_range=(0.9, 1.25)),
            dict(type='RandomCrop', size=448),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ]
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
