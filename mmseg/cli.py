"""The console script `maskclip`."""

import os
import signal


def main():
    """Run `mmseg.apis.cli`, whose imports take seconds."""
    end_on_interrupt()
    from mmseg.apis.cli import main

    main()


def end_on_interrupt():
    """Let Ctrl-C end the program in one line; `run_command` does so once everything is imported."""
    signal.signal(signal.SIGINT, _end)


def _end(number, frame):
    os.write(2, b'\nstopped\n')
    os._exit(130)
