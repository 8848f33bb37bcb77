"""The console script `maskclip segment|test|train|...`: one name for all command lines.

Modules that hold a command line import PyTorch and the like inside the functions that need them,
so that `--help` answers at once. A script of tools/ is a command by its name, and its docstring's
first line the summary; a function of this process is a line in COMMANDS.
"""

import ast
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmseg.apis.command import run_command
from mmseg.apis.command_lines import run_segment, run_test, run_train, run_words
from mmseg.errors import UserError
from mmseg.labelling.command import run_distill
from mmseg.utils import RESOURCES, nearest

COMMANDS = {
    'segment': (run_segment, 'Segment photos into classes named in words.'),
    'distill': (run_distill, 'From photos and words to labels, a student and a report.'),
    'test': (run_test, 'Evaluate, draw or write labels of a test set.'),
    'train': (run_train, 'Train a student, or a CLIP.'),
    'words': (run_words, 'Propose words for photos.'),
}


def main() -> None:
    """Run the command that `sys.argv` names."""
    run_command(lambda: dispatch(sys.argv[1:]))


def dispatch(arguments: Sequence[str]) -> None:
    """Run one command, such as ['segment', 'photo.jpg'].

    Raises:
        UserError: no such command.
    """
    scripts = scripts_below(RESOURCES)
    if not arguments or arguments[0] in ('-h', '--help'):
        print('maskclip COMMAND ... (maskclip COMMAND --help)\n')
        summaries = {name: summary for name, (_, summary) in COMMANDS.items()}
        summaries |= {name: _first_line(path) for name, path in scripts.items()}
        for name, summary in summaries.items():
            print(f'  {name:17} {summary}')
        return
    name, *rest = arguments
    if name in COMMANDS:
        COMMANDS[name][0](rest)
    elif name in scripts:
        os.execv(sys.executable, [sys.executable, str(scripts[name]), *rest])
    else:
        names = [*COMMANDS, *scripts]
        raise UserError(f'no command {name!r}{nearest(name, names)}; there are {", ".join(names)}')


def scripts_below(root: Path) -> dict[str, Path]:
    """Find the other command lines of a checkout or a wheel, as {name: path}."""
    paths = [root / 'demo' / 'app.py', *sorted((root / 'tools').glob('[!_]*.py'))]
    return {path.stem: path for path in paths if path.is_file() and path.stem not in COMMANDS}


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or '').partition('\n')[0]


if __name__ == '__main__':
    main()
