_base_ = [
    '../_base_/datasets/miniature_native.py',
    '../_base_/teachers/miniature_vit.py',
    '../_base_/default_runtime.py',
]
