_base_ = [
    '../../_base_/datasets/voc_20_512x512_zero_shot.py',
    '../../_base_/students/deeplabv2_r101_original.py',
    '../../_base_/schedules/sgd_20k.py',
    '../../_base_/train_runtime.py',
]
teacher = '../../maskclip/maskclip_r50_520x520_pascal_context_59.py'
model = dict(pad_to=512, start_clip_guided=(1, 1999), start_self_train=(2000, -1))
