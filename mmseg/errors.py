"""The one exception that is the user's to mend."""


class UserError(Exception):
    """A mistake in a config, a file or a command: its text is one line that names the cure.

    Tools print the text and end with exit code 1; anything else that is raised is a bug and keeps
    its traceback.
    """
