"""The contigs of a genome: their lengths, and what to say where names do not match."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from biolayers.fasta import Fasta
from biolayers.intervals.errors import IntervalError
from biolayers.naming import other_style

if TYPE_CHECKING:
    from biolayers.intervals.table import Intervals

Genome = Fasta | Mapping[str, int]


def lengths_of(genome: Genome) -> dict[str, int]:
    """The length of every contig, in the genome's order."""
    if isinstance(genome, Fasta):
        return dict(zip(genome.names, genome.lengths.tolist(), strict=True))
    return dict(genome)


def check_choice(what: str, given: str, choices: tuple[str, ...]) -> None:
    """Refuse what is no choice of an option."""
    if given not in choices:
        raise IntervalError(
            f"expected {what} to be one of {', '.join(map(repr, choices))}, received {given!r}"
        )


def unknown_contig(where: str, name: str, genome: Genome | Iterable[str]) -> str:
    """The message for a contig that the genome lacks, with what the user may have meant."""
    names = list(genome)
    of = genome.path if isinstance(genome, Fasta) else "the genome"
    partner = other_style(name, set(names))
    if partner is not None:
        return (
            f"{where}: expected a contig of {of}, received {name!r}, which seems to be called {partner!r} "
            f"there; give both the same names, as with intervals.rename({{{name!r}: {partner!r}, ...}})"
        )
    close = get_close_matches(name, names, 3) if len(names) < 10_000 else []
    some = ", ".join(map(repr, names[:5])) + (f", ... ({len(names):,} in all)" if len(names) > 5 else "")
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {some or 'none'}"
    return f"{where}: expected a contig of {of}, received {name!r}; {hint}"


def check_shared(ours: "Intervals", others: "Intervals") -> None:
    """Refuse tables that share no contig only because they follow two styles of names."""
    mine, theirs = list(dict.fromkeys(ours.contigs)), list(dict.fromkeys(others.contigs))
    if set(mine) & set(theirs):
        return
    for name in theirs:
        partner = other_style(name, mine)
        if partner is not None:
            raise IntervalError(
                f"{others.source}: expected contigs named as in {ours.source}, received {name!r} where that "
                f"has {partner!r}; give both the same names, as with "
                f"intervals.rename({{{name!r}: {partner!r}, ...}})"
            )
