_base_ = [
    '../_base_/datasets/miniature.py',
    '../_base_/protocols/miniature_64.py',
    '../_base_/teachers/miniature_vit.py',
    '../_base_/default_runtime.py',
]
