_base_ = [
    '../_base_/datasets/miniature.py',
    '../_base_/protocols/miniature_96.py',
    '../_base_/teachers/miniature_rn.py',
    '../_base_/default_runtime.py',
]
