_base_ = [
    '../_base_/datasets/image_folder.py',
    '../_base_/teachers/vit16.py',
    '../_base_/default_runtime.py',
]
