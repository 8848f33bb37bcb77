# The student of `maskclip distill` on a GPU.
_base_ = [
    '../_base_/datasets/photos_unlabeled.py',
    '../_base_/students/segformer_b5.py',
    '../_base_/schedules/adamw_8k.py',
    '../_base_/train_runtime.py',
]
teacher = './vit16_336_slide.py'
