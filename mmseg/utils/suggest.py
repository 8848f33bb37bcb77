import difflib


def nearest(name, known):
    """'IouMetric', ['IoUMetric', ...] -> " (nearest: 'IoUMetric')", or '' when nothing is close."""
    by_lower = {str(k).lower(): str(k) for k in known}
    found = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f' (nearest: {by_lower[found[0]]!r})' if found else ''
