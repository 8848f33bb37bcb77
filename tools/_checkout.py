"""Put this checkout's `mmseg` before any other one that may be installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
