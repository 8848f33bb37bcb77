"""What all command lines share."""

import os
import signal
import sys

from mmseg.errors import UserError


def run_command(main):
    """Call `main()`; a UserError becomes one line on stderr and exit code 1, Ctrl-C code 130."""
    signal.signal(signal.SIGTERM, _end)  # an exception, so that nothing half-written is left
    try:
        main()
    except KeyboardInterrupt:
        print('\nstopped', file=sys.stderr)
        sys.exit(130)
    except BaseException as error:
        message = _users_mistake(error)
        if message is None:
            raise
        print(f'error: {message}', file=sys.stderr, flush=True)
        # Other processes of a group may wait for this one: do not wait for them in turn.
        os._exit(1) if 'RANK' in os.environ else sys.exit(1)


def _end(number, frame):
    sys.exit(128 + number)


def _users_mistake(error):
    """The text of the first UserError behind an exception, or None.

    Worker processes and registries raise the same type again around a longer text, whose last part
    is the first one's.
    """
    found, name = None, f'{UserError.__module__}.{UserError.__name__}: '
    while error is not None:
        if isinstance(error, UserError):
            found = str(error)
        error = error.__cause__ if isinstance(error.__cause__, UserError) else error.__context__
    return found.rsplit(name, 1)[-1].strip() if found is not None else None


def add_config_arguments(parser):
    """CONFIG and --cfg-options, the same for every tool."""
    from mmengine.config import DictAction

    parser.add_argument('config', help='a Python config file below configs/')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override keys of the config, e.g. test_dataloader.batch_size=4',
    )
