"""From photos and words to labels, a student and a report.

python tools/distill.py PHOTOS --classes "road, grass|lawn, person" --out DIR
"""

from mmseg.apis.command import run_command
from mmseg.labelling.command import run_distill

if __name__ == '__main__':
    run_command(run_distill)
