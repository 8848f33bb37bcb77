# The protocol of SCLIP and later training-free methods: photos with a short side of 336, windows of
# 224 every 112. Use it with a teacher such as teachers/vit16_peers.py: CLIP's own mean and std, and
# positions='factor' for windows of other sizes than CLIP's 224.
protocol = dict(scale=(2048, 336), windows=dict(size=224, stride=112))
