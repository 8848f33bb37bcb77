"""python tools/test.py CONFIG [CHECKPOINT] --eval mIoU [--show-dir DIR] [--out DIR]"""

from mmseg.apis.command import run_command
from mmseg.apis.command_lines import run_test as main

if __name__ == '__main__':
    run_command(main)
