"""Suggest the right name for a wrong one."""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(name: Any, known: Iterable[Any]) -> str:
    """Suggest one of the known names: " (nearest: 'IoUMetric')", or '' when none is close."""
    by_lower = {str(k).lower(): str(k) for k in known}
    matches = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f' (nearest: {by_lower[matches[0]]!r})' if matches else ''
