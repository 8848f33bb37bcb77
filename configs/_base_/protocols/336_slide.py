# The protocol of the training-free peers (SCLIP and those after it): short side 336, windows of 224
# every 112. With it belong CLIP's own mean and std, and positions='factor' where the windows are
# not CLIP's own 224 (configs/_base_/teachers/vit16_peers.py).
protocol = dict(scale=(2048, 336), windows=dict(size=224, stride=112))
