_base_ = [
    '../_base_/datasets/cityscapes_19.py',
    '../_base_/protocols/336_slide.py',
    '../_base_/teachers/vit16_peers.py',
    '../_base_/default_runtime.py',
]
protocol = dict(scale=(2048, 560))  # as SCLIP has it for these large photos
vocabulary = 'cityscapes_peers'
