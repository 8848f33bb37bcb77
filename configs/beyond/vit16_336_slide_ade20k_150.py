_base_ = [
    '../_base_/datasets/ade20k_150.py',
    '../_base_/protocols/336_slide.py',
    '../_base_/teachers/vit16_peers.py',
    '../_base_/default_runtime.py',
]
vocabulary = 'ade20k_peers'
