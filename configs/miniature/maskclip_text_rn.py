_base_ = './maskclip_rn.py'
class_weight = dict(type='ClassWeight', tau=1.0, crop_size=64, text=_base_.model.decode_head.text)
