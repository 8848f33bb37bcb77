"""python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]] [--cfg-options ...]"""

from mmseg.apis.command import run_command
from mmseg.apis.command_lines import run_train as main

if __name__ == '__main__':
    run_command(main)
