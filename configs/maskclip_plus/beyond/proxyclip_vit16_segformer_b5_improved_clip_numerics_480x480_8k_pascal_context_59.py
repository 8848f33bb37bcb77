# Confident pixels and rare classes weigh more, labels are smoothed, and in the last quarter the
# running average of the student labels where it is confident. See docs/students.md.
_base_ = './proxyclip_vit16_segformer_b5_clip_numerics_480x480_8k_pascal_context_59.py'
model = dict(
    robust_loss=dict(confidence_power=1.0, balance=0.5, smoothing=0.1),
    start_clip_guided=(1, 6000),
    start_self_train=(6001, -1),
    ema_momentum=1e-3,
    self_thresh=0.5,
)
