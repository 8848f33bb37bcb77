def distinct_palette(n):
    """int -> n RGB triples in 0..255, all different: PASCAL VOC's colour map from index 1 on.

    An index's bits go round red, green and blue, each colour's highest bit first.
    """
    return tuple(_voc_colour(index) for index in range(1, n + 1))


def _voc_colour(index):
    r = g = b = 0
    for bit in range(8):
        r |= (index >> 0 & 1) << (7 - bit)
        g |= (index >> 1 & 1) << (7 - bit)
        b |= (index >> 2 & 1) << (7 - bit)
        index >>= 3
    return r, g, b
