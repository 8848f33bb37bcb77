"""Labels of a folder or of tar shards of any length, resumable, by one process or many.

python tools/pseudo_label.py CONFIG PHOTOS --out LABELS [--checkpoint FILE]
bash tools/dist_pseudo_label.sh CONFIG GPUS PHOTOS --out LABELS
python tools/pseudo_label.py CONFIG 'shards/*.tar' --out LABELS --scheduler ray --workers 8
"""

from mmseg.apis.command import run_command
from mmseg.labelling.command import main

if __name__ == '__main__':
    run_command(main)
