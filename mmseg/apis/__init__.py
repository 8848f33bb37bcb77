"""What the tools do, callable from Python."""

from .command import run_command
from .test import test

__all__ = ['run_command', 'test']
