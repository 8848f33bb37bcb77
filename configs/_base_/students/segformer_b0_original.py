_base_ = './segformer_b0.py'
# As published: loss over all pixels (Q14) of crops padded to 480 (Q23), scores resized twice (Q15),
# dropout never applied (Q17).
model = dict(loss_over='all', pad_to=480, resize_twice=True, decode_head=dict(dropout=0.0))
