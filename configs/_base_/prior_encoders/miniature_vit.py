# A class weight from the teacher's own CLIP, on the scene at the size that it is rendered in.
class_weight = dict(
    type='ClassWeight',
    tau=1.0,
    crop_size=64,
    text=dict(templates='miniature'),
    prior_encoder=dict(type='CLIPDenseExtractor', model='miniature-vit', pretrained='miniature'),
)
