"""Work of several threads, in order and in bounded memory."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor


def in_order(function, items, *, threads, ahead):
    """Yield function(item) in the order of the items, computed by threads up to `ahead` before.

    The items are drawn in the caller's thread, so one such stream may feed another.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
