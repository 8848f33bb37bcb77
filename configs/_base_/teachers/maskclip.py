# MaskCLIP with each CLIP's own numerics; the files beside this one name the tower.
model = dict(
    type='MaskClip',
    backbone=dict(type='CLIPDenseExtractor', pretrained='openai'),
    decode_head=dict(type='MaskClipHead', text=dict(templates='maskclip85')),
)
