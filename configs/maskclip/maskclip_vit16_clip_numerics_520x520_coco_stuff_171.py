_base_ = [
    '../_base_/datasets/coco_stuff_171.py',
    '../_base_/teachers/vit16.py',
    '../_base_/default_runtime.py',
]
