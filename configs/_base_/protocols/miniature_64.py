# Scenes at the size that they are rendered in, on which the ViT was trained.
protocol = dict(scale=(64, 64))
