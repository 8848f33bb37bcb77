"""Code of all command lines: errors in one line, and the arguments of a config."""

import argparse
import ast
import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseg.errors import UserError
from mmseg.utils import PACKAGE, reason_of

if TYPE_CHECKING:
    from mmengine.config import Config

# Errors of the operating system that the user can mend.
REFUSALS = 'EACCES EDQUOT EFBIG EIO EISDIR ELOOP EMFILE ENAMETOOLONG ENOSPC ENOTDIR EPERM EROFS'
ENGINES = ('torch', 'onnxruntime', 'openvino')  # both those of `mmseg.models.engines`
PRECISIONS = ('auto', 'fp32', 'tf32', 'bf16', 'fp16', 'int8')
LABEL_FORMATS = ('png', 'coco', 'yolo-seg', 'labelme', 'cvat')  # those of `write_labels`
REPORT = (
    "This is a bug of the program. Please report it on the project's issue page, with the command, "
    'its config and all lines above.'
)


def run_command(main: Callable[[], Any]) -> None:
    """Call `main()`; a UserError becomes one line on stderr and exit code 1, Ctrl-C code 130.

    If the reader of its output leaves, as `head` does, it ends in silence, with code 141.
    Any other exception is a bug: its traceback, a line that asks for a report, and exit code 1.
    """
    # For PyTorch, not yet imported. Threads that spin long at barriers waste cores that others use
    # too; with threads that sleep at once, small steps take a third longer.
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', '4000')
    signal.signal(signal.SIGTERM, _exit_on_signal)  # an exception, so that files are cleaned up
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(sys.stdout, 'reconfigure'):  # file names need not be UTF-8
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        _require_same_checkout(Path(sys.argv[0]))
        _call_and_flush(main)
    except SystemExit:  # of argparse, or of a nested command: already reported
        raise
    except BaseException as error:
        chain = _exception_chain(error)
        if any(isinstance(link, KeyboardInterrupt) for link in chain):
            print('\nstopped', file=sys.stderr)
            sys.exit(130)
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            sys.exit(128 + signal.SIGPIPE)
        message = _user_error_text(chain)
        if message is None and isinstance(error, OSError):
            message = _refusal_of_the_system(error)
        if message is None:
            traceback.print_exc()
        print(REPORT if message is None else f'error: {message}', file=sys.stderr, flush=True)
        # Other processes of a group may wait for this one: do not wait for them in turn.
        os._exit(1) if 'RANK' in os.environ else sys.exit(1)


def _exit_on_signal(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _require_same_checkout(script: Path) -> None:
    """Refuse to run a checkout's tool with the `mmseg` of another checkout."""
    for folder in script.resolve().parents:
        checkout = folder.parent
        if folder.name in ('tools', 'demo') and (checkout / 'mmseg' / 'apis').is_dir():
            if checkout / 'mmseg' != PACKAGE:
                raise UserError(
                    f'{script} belongs to {checkout}, but Python imports {PACKAGE}; '
                    f'run: pip install -e {checkout}'
                )


def _call_and_flush(main: Callable[[], Any]) -> None:
    """Call `main()`; its output must be written before it counts as done."""
    try:
        main()
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def _exception_chain(error: BaseException) -> list[BaseException]:
    """List an exception and those that it was raised from, the first cause last."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__ if isinstance(link.__cause__, UserError) else link.__context__
    return chain


def _user_error_text(chain: Sequence[BaseException]) -> str | None:
    """Return the text of the first UserError that was raised, or None.

    Worker processes and registries raise the same type again around a longer text, which ends in
    the first one's.
    """
    texts = [str(error) for error in chain if isinstance(error, UserError)]
    prefix = f'{UserError.__module__}.{UserError.__name__}: '
    return texts[-1].rsplit(prefix, 1)[-1].strip() if texts else None


def _reader_has_left() -> bool:
    """Tell whether nobody reads standard output any more, as after `| head`."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not output.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it again
    return True


def _refusal_of_the_system(error: OSError) -> str | None:
    """Describe an operating system's error if the user can mend it, else None."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it again
        return f'cannot write to standard output: {error.strerror}'
    if errno.errorcode.get(error.errno or 0) not in REFUSALS.split():
        return None
    return f'{error.filename}: {error.strerror}' if error.filename else error.strerror


class ConfigOptions(argparse.Action):
    """Parse KEY=VALUE ... into {key: value}; spaces stay (mmengine's DictAction drops them)."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for value in values or ():
            key, equals, text = value.partition('=')
            if not equals or not key:
                raise UserError(f'{option_string} takes KEY=VALUE, not {value!r}')
            options[key] = parse_value(text)
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Parse '0.5' -> 0.5, '[dog,potted plant]' -> ['dog', 'potted plant'], 'a, b' -> 'a, b'."""
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
def settings_of(config: 'Config') -> Iterator[None]:
    """Turn a library's error about a setting of a config into a UserError.

    Libraries raise ValueError or AssertionError. Other exceptions, and those
    that this package raises, are bugs and pass through.
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


def documented_parser(description: str | None) -> argparse.ArgumentParser:
    """Create a parser that shows a module's docstring as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG and --cfg-options, the same for every tool."""
    parser.add_argument('config', help='a config file, or the name of one below configs/')
    add_config_options(parser)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add --cfg-options."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='override keys of the config, e.g. test_dataloader.batch_size=4',
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument('--device', help='cpu, or an accelerator; default the best there is')


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add --engine and --precision."""
    parser.add_argument(
        '--engine', choices=ENGINES, help="what runs the network; default the config's, torch"
    )
    parser.add_argument(
        '--precision', choices=PRECISIONS, help="of the network; default the config's, fp32"
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add --format."""
    parser.add_argument(
        '--format',
        choices=LABEL_FORMATS,
        default='png',
        help='also write the labels in this format, to OUT/FORMAT',
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add --launcher, and the --local-rank that old launchers pass."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)
