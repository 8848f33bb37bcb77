_base_ = [
    '../_base_/datasets/voc_20.py',
    '../_base_/protocols/336_slide.py',
    '../_base_/teachers/vit16_peers.py',
    '../_base_/default_runtime.py',
]
vocabulary = 'voc_20_peers'
