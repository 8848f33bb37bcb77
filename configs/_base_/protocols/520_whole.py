# MaskCLIP's protocol (ECCV 2022): photos resized to fit into 520 x 520, in one piece.
protocol = dict(scale=(520, 520), windows=None)
