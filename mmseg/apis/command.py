"""What all command lines share."""

import argparse
import ast
import errno
import os
import signal
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path

from mmseg.errors import UserError
from mmseg.utils import reason_of

# Errors of the operating system that are the user's to mend.
REFUSALS = 'EACCES EDQUOT EFBIG EIO EISDIR ELOOP EMFILE ENAMETOOLONG ENOSPC ENOTDIR EPERM EROFS'
PACKAGE = Path(__file__).resolve().parents[1]
REPORT = (
    "This is a bug of the program. Please report it on the project's issue page, with the command, "
    'its config and all lines above.'
)


def run_command(main):
    """Call `main()`; a UserError becomes one line on stderr and exit code 1, Ctrl-C code 130.

    Any other exception is a bug: its traceback, a line that asks for a report, and exit code 1.
    """
    signal.signal(signal.SIGTERM, _end)  # an exception, so that nothing half-written is left
    signal.signal(signal.SIGINT, signal.default_int_handler)  # see `mmseg.cli`
    if hasattr(sys.stdout, 'reconfigure'):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        _call_and_flush(main)
    except SystemExit:  # of another command inside, or of argparse: said already
        raise
    except KeyboardInterrupt:
        print('\nstopped', file=sys.stderr)
        sys.exit(130)
    except BaseException as error:
        message = _users_mistake(error)
        if message is None:
            traceback.print_exc()
        print(REPORT if message is None else f'error: {message}', file=sys.stderr, flush=True)
        # Other processes of a group may wait for this one: do not wait for them in turn.
        os._exit(1) if 'RANK' in os.environ else sys.exit(1)


def _end(number, frame):
    sys.exit(128 + number)


def _call_and_flush(main):
    """Call `main()`; what it printed is written before it counts as done."""
    try:
        main()
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def _users_mistake(error):
    """The text of the first UserError behind an exception, or of what the system refuses, or None.

    Worker processes and registries raise the same type again around a longer text, whose last part
    is the first one's.
    """
    found, first, name = None, error, f'{UserError.__module__}.{UserError.__name__}: '
    while error is not None:
        if isinstance(error, UserError):
            found = str(error)
        error = error.__cause__ if isinstance(error.__cause__, UserError) else error.__context__
    if found is None and isinstance(first, OSError):
        return _systems_refusal(first)
    return found.rsplit(name, 1)[-1].strip() if found is not None else None


def _systems_refusal(error: OSError) -> str | None:
    """What the user can mend of an operating system's error, or None"""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it again
        return f'cannot write to standard output: {error.strerror}'
    if errno.errorcode.get(error.errno) not in REFUSALS.split():
        return None
    return f'{error.filename}: {error.strerror}' if error.filename else error.strerror


class ConfigOptions(argparse.Action):
    """KEY=VALUE ... -> {key: value}; blanks stay (mmengine's DictAction drops them)."""

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest) or {})
        for value in values:
            key, equals, text = value.partition('=')
            if not equals or not key:
                raise UserError(f'{option_string} takes KEY=VALUE, not {value!r}')
            options[key] = parse_value(text)
        setattr(namespace, self.dest, options)


def parse_value(text):
    """'0.5' -> 0.5, '[dog,potted plant]' -> ['dog', 'potted plant'], 'a, b' -> 'a, b'"""
    text = text.strip()
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    if len(text) > 1 and text[0] + text[-1] in ('[]', '()') and not set('[(') & set(text[1:-1]):
        return [parse_value(item) for item in text[1:-1].split(',')]
    return text


@contextmanager
def settings_of(config):
    """What a library refuses of a config's settings becomes the user's mistake, in one line.

    Libraries say so by ValueError, or by an assertion of their own; any other exception, and those
    that are raised here, are bugs.
    """
    try:
        yield
    except (ValueError, AssertionError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
            raise
        raise UserError(
            f'{config.filename} has a setting that cannot be used: {reason_of(error)}'
        ) from error


def add_config_arguments(parser):
    """CONFIG and --cfg-options, the same for every tool."""
    parser.add_argument('config', help='a Python config file below configs/')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='override keys of the config, e.g. test_dataloader.batch_size=4',
    )
