"""Segment your own photos into your own words.

python demo/image_demo.py PHOTO_OR_FOLDER_OR_VIDEO --classes "dog, grass, sky" [--out DIR]
"""

from mmseg.apis.command import run_command
from mmseg.apis.command_lines import run_segment

if __name__ == '__main__':
    run_command(run_segment)
