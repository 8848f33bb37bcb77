# The teacher's own tower weighs the classes, by the scene as it was drawn.
class_weight = dict(
    type='ClassWeight',
    tau=1.0,
    crop_size=64,
    text=dict(templates='miniature'),
    prior_encoder=dict(type='CLIPDenseExtractor', model='miniature-vit', pretrained='miniature'),
)
