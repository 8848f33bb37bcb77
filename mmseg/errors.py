"""The exception for mistakes that the user can mend."""


class UserError(Exception):
    """A mistake in a config, a file or a command. Its text is one line that names the cure.

    Tools print the text and exit with code 1. Any other exception is a bug and keeps its traceback.
    """
