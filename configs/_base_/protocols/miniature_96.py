# Scenes at one and a half times their size: the ResNet's grid of 6 x 6 (docs/leaderboard.md).
protocol = dict(scale=(96, 96))
