"""python tools/test.py CONFIG [CHECKPOINT] --eval mIoU [--show-dir DIR] [--out DIR]"""

import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.apis.test import main

if __name__ == '__main__':
    run_command(main)
