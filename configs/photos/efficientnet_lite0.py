# The student of `maskclip distill` on a CPU.
_base_ = [
    '../_base_/datasets/photos_unlabeled.py',
    '../_base_/students/efficientnet_lite0.py',
    '../_base_/schedules/adamw_8k.py',
    '../_base_/train_runtime.py',
]
teacher = './vit16_336_slide.py'
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0.01))
