"""Segment your own photos into your own words.

python demo/image_demo.py PHOTO_OR_FOLDER_OR_VIDEO --classes "dog, grass, sky" [--out DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'tools'))
import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.apis.segment_command import main

if __name__ == '__main__':
    run_command(main)
