# The image-level view of CLIP ViT-B/16 weighs the classes (Q8); tau divides raw cosines (Q7).
class_weight = dict(
    type='ClassWeight',
    tau=1.0,
    view='clip',
    text=dict(templates='maskclip85'),
    weigher=dict(type='CLIPDenseExtractor', model='ViT-B-16-quickgelu', pretrained='openai'),
)
