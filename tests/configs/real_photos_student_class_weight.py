# As published: the class weight scales the student's scores, in training and at test.
_base_ = './real_photos_student.py'
mini = '../shared/mini/'
class_weight = dict(
    type='ClassWeight',
    tau=0.1,
    crop='image',
    signed=True,
    text=dict(file=mini + 'text_voc20.npy'),
    prior_encoder=dict(
        type='CLIPDenseExtractor',
        model=mini + 'model_config.json',
        pretrained=mini + 'visual.safetensors',
    ),
)
del mini
