# The teacher's own tower weighs the classes, by the scene as it was drawn.
class_weight = dict(
    type='ClassWeight',
    tau=1.0,
    view_size=64,
    text=dict(templates='miniature'),
    weigher=dict(type='CLIPDenseExtractor', model='miniature-vit', pretrained='miniature'),
)
