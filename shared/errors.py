"""Errors that are the user's to mend: one clear line, never a traceback on the command line."""


class UserError(ValueError):
    """Something given from outside is wrong: the message says what was expected, what came, what to do.

    The command line prints the message on one line and exits with status 2; a library caller
    catches it as a `ValueError`.
    """
