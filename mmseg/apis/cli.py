"""`maskclip segment|test|train ...`: the command lines of `demo/` and `tools/` by one name."""

import sys

from mmseg.errors import UserError

from . import segment_command, test, train
from .command import run_command

COMMANDS = {
    'segment': (segment_command.main, 'photos into classes named in words'),
    'test': (test.main, 'evaluate, draw or write labels of a test set'),
    'train': (train.main, 'train a student, or a CLIP'),
}


def main():
    """The console script `maskclip`."""
    run_command(lambda: dispatch(sys.argv[1:]))


def dispatch(arguments):
    """['segment', ...] -> calls it with the rest"""
    if not arguments or arguments[0] in ('-h', '--help'):
        print('maskclip COMMAND ... (maskclip COMMAND --help)\n')
        for name, (_, what) in COMMANDS.items():
            print(f'  {name:8} {what}')
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(f'no command {name!r}; there are {", ".join(COMMANDS)}')
    COMMANDS[name][0](rest)
