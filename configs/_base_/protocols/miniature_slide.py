# Scenes at twice the size that they are rendered in, in windows of the size that the ViT knows.
protocol = dict(scale=(128, 128), windows=dict(size=64, stride=32))
