_base_ = [
    '../../_base_/datasets/pascal_context_59_480x480.py',
    '../../_base_/students/deeplabv2_r101_original.py',
    '../../_base_/schedules/sgd_4k.py',
    '../../_base_/train_runtime.py',
]
teacher = '../../maskclip/maskclip_r50_520x520_pascal_context_59.py'
