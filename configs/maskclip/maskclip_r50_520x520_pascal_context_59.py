_base_ = [
    '../_base_/datasets/pascal_context_59.py',
    '../_base_/teachers/r50_original.py',
    '../_base_/default_runtime.py',
]
