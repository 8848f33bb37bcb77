"""The exception for mistakes that the user can mend."""

from importlib import import_module


class UserError(Exception):
    """A mistake in a config, a file or a command. Its text is one line that names the cure.

    Tools print the text and exit with code 1. Any other exception is a bug and keeps its traceback.
    """


def require_packages(subject: str, *names: str, extra: str = 'export') -> None:
    """Refuse to go on without the packages of an extra of this project.

    Raises:
        UserError: one is not installed.
    """
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(
                f"{subject} needs {error.name or name}: pip install 'maskclip-plus[{extra}]'"
            ) from error
