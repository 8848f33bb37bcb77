_base_ = [
    '../_base_/datasets/pascal_context_60.py',
    '../_base_/protocols/336_slide.py',
    '../_base_/teachers/vit16_peers.py',
    '../_base_/default_runtime.py',
]
vocabulary = 'pascal_context_60_peers'
