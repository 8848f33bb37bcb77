_base_ = [
    '../_base_/datasets/cityscapes_19.py',
    '../_base_/teachers/vit16.py',
    '../_base_/default_runtime.py',
]
