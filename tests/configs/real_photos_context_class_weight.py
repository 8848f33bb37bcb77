_base_ = './real_photos_context_base.py'
class_weight = dict(
    type='ClassWeight', tau=0.1, crop='image', signed=True, text=_base_.model.decode_head.text
)
