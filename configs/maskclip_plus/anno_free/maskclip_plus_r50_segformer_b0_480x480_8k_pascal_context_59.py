_base_ = [
    '../../_base_/datasets/pascal_context_59_480x480.py',
    '../../_base_/students/segformer_b0_original.py',
    '../../_base_/schedules/adamw_8k_original.py',
    '../../_base_/train_runtime.py',
]
teacher = '../../maskclip/maskclip_r50_520x520_pascal_context_59.py'
