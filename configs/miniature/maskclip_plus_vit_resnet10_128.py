# Sees scenes at twice their size, where its teacher would see worse: let tools/pseudo_label.py
# write its labels before (docs/students.md).
_base_ = [
    '../_base_/datasets/miniature_unlabeled_double.py',
    '../_base_/students/miniature_resnet10.py',
    '../_base_/schedules/miniature_300.py',
    '../_base_/train_runtime.py',
]
teacher = './maskclip_vit.py'
default_hooks = dict(checkpoint=dict(interval=100))
