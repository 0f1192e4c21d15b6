"""Parts of a file by region, BED interval or name."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from biolayers import Fasta, Intervals
from biolayers.commands.fasta.streams import ALPHABETS, check_width, opened, output, write_record
from shared.errors import UserError


@dataclass(frozen=True)
class Region:
    """A part of a record, 0-based and half-open, and its header."""

    name: str
    start: int
    end: int
    turned: bool
    header: str


def fetch(
    path: str,
    regions: Sequence[str],
    bed: str | None,
    names: str | None,
    *,
    turn: bool,
    alphabet: str,
    width: int,
    out: str,
    force: bool,
) -> None:
    """Write the regions, then the intervals, then what the file of names says."""
    if not regions and bed is None and names is None:
        raise UserError(
            "qbio fasta fetch: expected regions such as chr1:1-100, --bed or --names, received none"
        )
    check_width(width)
    with opened(path, ALPHABETS[alphabet]) as fasta:
        wanted = [parse(fasta, text, "REGIONS") for text in regions]
        wanted += list(_of_bed(fasta, bed)) if bed is not None else []
        wanted += list(_of_names(fasta, names)) if names is not None else []
        with output(out, force=force) as write:
            for region in wanted:
                letters = fasta[region.name][region.start : region.end]
                turned = region.turned != turn
                name, blank, rest = region.header.partition(" ")
                header = f"{name}(-){blank}{rest}" if turned and not region.turned else region.header
                write_record(write, header, other_strand(fasta, letters) if turned else letters, width)


def parse(fasta: Fasta, text: str, source: str) -> Region:
    """A region as in samtools: a name, or name:start, or name:start-end, from 1 and with its end.

    Args:
        fasta: The file; a record whose whole name is `text` goes first.
        text: Such as `chr1:1,000-2,000`.
        source: Where it comes from, for messages.

    Raises:
        UserError: There is no such record, or no such place in it.
    """
    found = re.fullmatch(r"(.+):([\d,]+)(?:-([\d,]*))?", text)
    if text in fasta or found is None:
        return Region(text, 0, len(fasta[text]), False, fasta[text].header)
    name, length = found[1], len(fasta[found[1]])
    start = int(found[2].replace(",", "") or 0)
    end = int((found[3] or "").replace(",", "") or length)
    if not 1 <= start <= end <= length:
        raise UserError(
            f"{source}: expected {name}:START-END with 1 <= START <= END <= {length:,}, its length, "
            f"received {text!r}"
        )
    return Region(name, start - 1, end, False, f"{name}:{start}-{end}")


def other_strand(fasta: Fasta, letters: str) -> str:
    """The reverse complement of letters, upper and lower case kept.

    Raises:
        UserError: The alphabet has no strands.
    """
    from Bio.Seq import reverse_complement, reverse_complement_rna

    _ = fasta.alphabet.complement_table  # raises where there is none
    return (reverse_complement_rna if fasta.alphabet.name == "RNA" else reverse_complement)(letters)


def _of_bed(fasta: Fasta, path: str) -> Iterator[Region]:
    table = Intervals.read(path)
    titles = table.columns.get("name")
    for i, (name, start, end, strand) in enumerate(table):
        if name not in fasta or end > len(fasta[name]):
            limit = f"its {len(fasta[name]):,} letters" if name in fasta else f"a record of {fasta.path}"
            raise UserError(
                f"{table.where(i)}: expected an interval within {limit}, received {name}:{start}-{end}"
            )
        header = f"{name}:{start + 1}-{end}" + (f"({strand})" if strand in "+-" else "")
        title = "" if titles is None else str(titles[i])
        yield Region(
            name, start, end, strand == "-", f"{title} {header}" if title not in ("", ".") else header
        )


def _of_names(fasta: Fasta, path: str) -> Iterator[Region]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"--names: expected a text file, received {path}, which is none") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield parse(fasta, line.strip(), f"{path}, line {number}")
