_base_ = [
    '../_base_/datasets/miniature_unlabeled_native.py',
    '../_base_/students/miniature_resnet10.py',
    '../_base_/schedules/miniature_300.py',
    '../_base_/train_runtime.py',
]
teacher = './maskclip_vit.py'
default_hooks = dict(checkpoint=dict(interval=100))
