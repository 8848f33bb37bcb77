"""python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]] [--cfg-options ...]"""

import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.apis.train import main

if __name__ == '__main__':
    run_command(main)
