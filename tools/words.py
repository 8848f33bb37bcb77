"""Propose words for photos, with their shares of the photos.

python tools/words.py PHOTOS [--from LIST] [--top N]
"""

from mmseg.apis.command import run_command
from mmseg.apis.command_lines import run_words

if __name__ == '__main__':
    run_command(run_words)
