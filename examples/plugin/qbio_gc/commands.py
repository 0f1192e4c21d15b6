"""The command: its parameters are the options, its docstring is the help."""

from pathlib import Path


def gc(*, fasta: Path, digits: int = 3) -> None:
    """Print the GC content of every record of a FASTA file.

    Args:
        fasta: The sequences.
        digits: Digits after the point.
    """
    from biolayers import Fasta  # imported here, so that `qbio --help` stays quick
    from qbio_gc.ops import content

    records = Fasta(fasta)
    for name in records:
        share = content(records[name].tokens()[None]).item()  # (1, l) -> a number
        print(f"{name}\t{share:.{digits}f}")
