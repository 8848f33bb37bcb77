from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
OURS = ('pretrain', 'data')


def in_checkout(path):
    """Look for a path of `pretrain/` or `data/` in the current folder, then in the checkout.

    Returns:
        The path as it is, or, where only the checkout has it, below the checkout.
    """
    parts, there = Path(path).parts, CHECKOUT / path
    only_there = parts[:1] and parts[0] in OURS and not Path(path).exists() and there.exists()
    return str(there) if only_there else path
