"""Mistakes that the library explains in terms of Python, in those of the command line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import UserError

# part of a message of the library -> what a user of the program reads
TERMS = (
    (
        r"dataset: expected pad_to None, 'longest', 'batch' or a length",
        "--pad-to: expected 'longest' or a length",
    ),
    (r"pad_to='longest'", "--pad-to longest"),
    (r"FastaDataset: name_column and label_column", "--name-column and --label-column"),
    (r"give labels=$", "give --labels"),
    (r"^label pattern", "--label-pattern"),
    (r"^model:", "--model:"),
    (r"(cannot be read: No such file or directory)$", r"\1; check the path"),
    # remedies that the program has no option for
    (r", or choose the policy \w+='\w+'", ""),
    (r", or pass classes=\[\.\.\.\] if others occur in other files", ""),
    (r", or give a callable$", ""),
    (r", drop the class, or make fewer parts", " or drop the class"),
)


def in_options(message: str) -> str:
    """The message with options for arguments.

    Example:
        >>> in_options("x.fa, line 3: expected 4 letters, received 3; choose pad_to='longest'")
        'x.fa, line 3: expected 4 letters, received 3; choose --pad-to longest'
    """
    for term, words in TERMS:
        message = re.sub(term, words, message)
    return message


@contextmanager
def on_the_command_line() -> Iterator[None]:
    """Within this block a user's mistake is explained by the options of the command line.

    Raises:
        UserError: what was a `UserError` within.
    """
    try:
        yield
    except UserError as error:
        raise UserError(in_options(str(error))) from error
