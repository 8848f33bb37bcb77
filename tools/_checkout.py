"""Put this checkout's `mmseg` before any other one that may be installed."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmseg.cli import end_on_interrupt  # noqa: E402

if ROOT in Path(sys.argv[0]).resolve().parents:  # a tool, not what imports one
    end_on_interrupt()
