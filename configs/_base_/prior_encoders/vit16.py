# A class weight from CLIP ViT-B/16 on its crop of the photo (Q8); tau divides raw cosines (Q7).
class_weight = dict(
    type='ClassWeight',
    tau=1.0,
    crop='clip',
    text=dict(templates='maskclip85'),
    prior_encoder=dict(type='CLIPDenseExtractor', model='ViT-B-16-quickgelu', pretrained='openai'),
)
