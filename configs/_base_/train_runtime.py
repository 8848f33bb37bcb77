_base_ = './default_runtime.py'
custom_hooks = [
    dict(type='ProgressHook'),
    dict(type='TrainProgressHook'),
    dict(type='NonFiniteLossHook'),
    dict(type='LabelLeakHook'),
]
# Log as JSON lines and for TensorBoard, in a folder of the run below the work folder.
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        by_epoch=False,
        interval=400,
        max_keep_ckpts=2,
        save_best='mIoU',
        rule='greater',
    ),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
