"""Where the windows of a dataset lie: genomes and their intervals, of one length and within the contigs."""

from collections.abc import Mapping
from typing import Any

from biolayers.alphabet import Alphabet
from biolayers.fasta import Fasta
from biolayers.intervals.errors import IntervalError
from biolayers.intervals.table import Intervals


def paired(genome: Any, intervals: Any, alphabet: Alphabet) -> tuple[list[Fasta], list[Any]]:
    """The genomes, and the intervals of each, in the order of the genomes."""
    several = isinstance(genome, Mapping)
    if several and (not genome or not isinstance(intervals, Mapping) or set(genome) != set(intervals)):
        received = list(intervals) if isinstance(intervals, Mapping) else type(intervals).__name__
        raise IntervalError(
            f"IntervalDataset: expected a mapping with intervals for each of the genomes {list(genome)}, "
            f"received {received}"
        )
    files = list(genome.values()) if several else [genome]
    fastas = [file if isinstance(file, Fasta) else Fasta(file, alphabet=alphabet) for file in files]
    if len({fasta.alphabet for fasta in fastas}) > 1:
        raise IntervalError("IntervalDataset: expected genomes of one alphabet, received several")
    return fastas, [intervals[name] for name in genome] if several else [intervals]


def check_alphabet(alphabet: Alphabet, reverse_complement: float, beyond: str) -> None:
    """Refuse options that need a letter or a strand that the alphabet lacks."""
    if reverse_complement and not alphabet.stranded:
        raise IntervalError(
            "IntervalDataset: expected an alphabet with complements for reverse_complement, "
            f"received {alphabet}"
        )
    if beyond == "unknown" and alphabet.unknown_token is None:
        raise IntervalError(
            f"IntervalDataset: expected an alphabet with an unknown letter, received {alphabet}"
        )


def fitted(
    given: Intervals, fasta: Fasta, length: int | None, around: str, beyond: str, jitter: int
) -> Intervals:
    """Windows whose ids count the records of the genome, and which lie within their contigs if they must."""
    table = given.fit(fasta)  # an interval that leaves its contig belongs to another genome
    if length is not None:
        table = table.resize(length, around)
    if beyond in ("pad", "unknown"):
        return table
    return table.fit(fasta, beyond=beyond, margin=jitter)


def common_width(tables: list[Intervals]) -> int:
    """The one length of all windows."""
    filled = [table for table in tables if len(table)]
    if not filled:
        raise IntervalError("IntervalDataset: expected at least one window, received none")
    width = int(filled[0].lengths[0])
    for table in filled:
        odd = (table.lengths != width) | (table.lengths == 0)
        if odd.any():
            i = int(odd.argmax())
            raise IntervalError(
                f"{table.where(i)}: expected {max(width, 1):,} letters as in the first interval, received "
                f"{table.lengths[i]:,}; give length= for windows of one length"
            )
    return width
