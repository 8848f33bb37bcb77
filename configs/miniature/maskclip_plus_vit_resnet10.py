_base_ = [
    '../_base_/datasets/miniature_unlabeled_native.py',
    '../_base_/students/miniature_resnet10.py',
    '../_base_/schedules/miniature_300.py',
    '../_base_/miniature_runtime.py',
]
teacher = './maskclip_vit.py'
