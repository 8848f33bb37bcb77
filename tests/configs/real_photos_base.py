_base_ = ['../../configs/_base_/default_runtime.py', './voc20_mini.py']
mini = '../shared/mini/'
model = dict(
    type='MaskClip',
    backbone=dict(
        type='CLIPDenseExtractor',
        model=mini + 'model_config.json',
        pretrained=mini + 'visual.safetensors',
    ),
    decode_head=dict(type='MaskClipHead', text=dict(file=mini + 'text_voc20.npy')),
)
del mini
