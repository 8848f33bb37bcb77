# MaskCLIP's protocol (ECCV 2022): the photo inside 520 x 520, its ratio kept, in one piece.
protocol = dict(scale=(520, 520), windows=None)
