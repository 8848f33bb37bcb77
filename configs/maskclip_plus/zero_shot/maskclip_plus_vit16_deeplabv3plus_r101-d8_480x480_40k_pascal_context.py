_base_ = [
    '../../_base_/datasets/pascal_context_60_480x480_zero_shot.py',
    '../../_base_/students/deeplabv3plus_r101_original.py',
    '../../_base_/schedules/sgd_40k.py',
    '../../_base_/train_runtime.py',
]
teacher = '../../maskclip/maskclip_vit16_520x520_pascal_context_59.py'
model = dict(
    learned_classes=['background'], start_clip_guided=(1, 3999), start_self_train=(4000, -1)
)
