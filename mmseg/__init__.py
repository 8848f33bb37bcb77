"""MaskCLIP, class weights and MaskCLIP+: segmentation into any classes named in words."""

__version__ = '0.2.0'
