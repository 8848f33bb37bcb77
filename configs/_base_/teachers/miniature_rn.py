model = dict(
    type='MaskClip',
    backbone=dict(type='CLIPDenseExtractor', model='miniature-rn', pretrained='miniature'),
    decode_head=dict(type='MaskClipHead', text=dict(templates='miniature')),
)
