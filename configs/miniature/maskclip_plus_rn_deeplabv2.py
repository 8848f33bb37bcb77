_base_ = [
    '../_base_/datasets/miniature_unlabeled.py',
    '../_base_/students/miniature_deeplabv2.py',
    '../_base_/schedules/miniature_300.py',
    '../_base_/miniature_runtime.py',
]
teacher = './maskclip_rn.py'
