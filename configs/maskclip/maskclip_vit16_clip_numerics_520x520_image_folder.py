# python tools/test.py THIS_FILE --out LABELS --cfg-options test_dataloader.dataset.data_root=PHOTOS
_base_ = [
    '../_base_/datasets/image_folder.py',
    '../_base_/teachers/vit16.py',
    '../_base_/default_runtime.py',
]
