"""`maskclip segment|test|train|...`: the command lines of `demo/` and `tools/` by one name."""

import ast
import runpy
import sys

from mmseg.errors import UserError
from mmseg.utils import CHECKOUT

from . import segment_command, test, train
from .command import run_command

COMMANDS = {
    'segment': (segment_command.main, 'Photos into classes named in words.'),
    'test': (test.main, 'Evaluate, draw or write labels of a test set.'),
    'train': (train.main, 'Train a student, or a CLIP.'),
}


def main():
    """What `mmseg.cli` calls."""
    run_command(lambda: dispatch(sys.argv[1:]))


def dispatch(arguments):
    """['segment', ...] -> calls it with the rest"""
    scripts = scripts_of(CHECKOUT)
    if not arguments or arguments[0] in ('-h', '--help'):
        print('maskclip COMMAND ... (maskclip COMMAND --help)\n')
        told = {name: what for name, (_, what) in COMMANDS.items()}
        told |= {name: _first_line(path) for name, path in scripts.items()}
        for name, what in told.items():
            print(f'  {name:17} {what}')
        return
    name, *rest = arguments
    if name in COMMANDS:
        COMMANDS[name][0](rest)
    elif name in scripts:
        sys.argv = [str(scripts[name]), *rest]
        sys.path.insert(0, str(scripts[name].parent))
        runpy.run_path(str(scripts[name]), run_name='__main__')
    else:
        raise UserError(f'no command {name!r}; there are {", ".join([*COMMANDS, *scripts])}')


def scripts_of(checkout):
    """Folder -> {name: path} of the other command lines that it holds, if it is a checkout."""
    paths = [checkout / 'demo' / 'app.py', *sorted((checkout / 'tools').glob('[!_]*.py'))]
    return {path.stem: path for path in paths if path.is_file() and path.stem not in COMMANDS}


def _first_line(path):
    return (ast.get_docstring(ast.parse(path.read_text())) or '').partition('\n')[0]
