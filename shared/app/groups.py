"""Commands under a common name, such as `qbio fasta stats` and `qbio fasta index`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """What an entry point of `qbio.commands` names instead of a function when it is several commands.

    Args:
        summary: One line for the overview.
        commands: The function of each command by its name.
    """

    summary: str
    commands: Mapping[str, Callable]
