# MaskCLIP with the numerics of CLIP itself. Other files in this folder choose the CLIP.
model = dict(
    type='MaskClip',
    backbone=dict(type='CLIPDenseExtractor', pretrained='openai'),
    decode_head=dict(type='MaskClipHead', text=dict(templates='maskclip85')),
)
