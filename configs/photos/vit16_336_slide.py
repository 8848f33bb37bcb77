# The teacher of `maskclip distill`: SC-CLIP's readout of CLIP ViT-B/16, photos in windows.
_base_ = [
    '../_base_/datasets/image_folder.py',
    '../_base_/protocols/336_slide.py',
    '../_base_/teachers/vit16_peers.py',
    '../_base_/default_runtime.py',
]
readout = 'scclip'
