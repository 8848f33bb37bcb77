# The best free labels of the miniature, to train students on.
_base_ = [
    '../_base_/datasets/miniature.py',
    '../_base_/protocols/miniature_96.py',
    '../_base_/teachers/miniature_best.py',
    '../_base_/default_runtime.py',
]
