_base_ = './real_photos_student.py'
# A SegFormer-b0 from scratch on the labels of the small tower: for comparisons of a few steps.
teacher = 'real_photos_base.py'
model = dict(
    backbone=dict(_delete_=True, type='MixVisionTransformer', size='b0', pretrained=False),
    decode_head=dict(dropout=0.0),
)
