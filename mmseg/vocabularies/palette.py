def distinct_palette(n):
    """int -> n RGB triples in 0..255, all different: PASCAL VOC's bit-shuffled colour map from 1 on.

    The devkit's map repeats after 255 colours; a colour already taken moves on to the next free one.
    """
    colours, taken = [], {(0, 0, 0)}
    for index in range(1, n + 1):
        colour = _voc_colour(index)
        while colour in taken:
            colour = tuple((c + step) % 256 for c, step in zip(colour, (1, 7, 31)))
        taken.add(colour)
        colours.append(colour)
    return tuple(colours)


def _voc_colour(index):
    r = g = b = 0
    for bit in range(8):
        r |= (index >> 0 & 1) << (7 - bit)
        g |= (index >> 1 & 1) << (7 - bit)
        b |= (index >> 2 & 1) << (7 - bit)
        index >>= 3
    return r, g, b
