_base_ = [
    '../_base_/datasets/coco_stuff_171.py',
    '../_base_/protocols/336_slide.py',
    '../_base_/teachers/vit16_peers.py',
    '../_base_/default_runtime.py',
]
vocabulary = 'coco_stuff_171_peers'
