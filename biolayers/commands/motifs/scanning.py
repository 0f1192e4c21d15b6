"""Sites of motifs in a file, written piece by piece."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biolayers.commands.fasta.streams import ALPHABETS, PIPE, opened, output
from biolayers.motifs.bank import MotifBank
from biolayers.motifs.hits import TITLES, MotifHits, joined
from biolayers.motifs.search import stream_motifs
from shared.app.wording import option
from shared.errors import UserError

# of each kind of file: what its columns hold, and the titles of those that have others
_COLUMNS = {
    ".tsv": (TITLES, {}),
    ".bed": (
        ("sequence", "start", "end", "motif", "score", "strand", "p_value", "q_value"),
        {"sequence": "#chrom", "motif": "name"},
    ),
}
_ARGUMENTS = re.compile(r"\b(p_value|min_score|background|unknown|format)(?=[:=])")


def scan(
    path: str,
    motifs: str,
    *,
    format: str | None,
    background: list[float] | None,
    q_values: bool,
    alphabet: str,
    out: str,
    force: bool,
    **search: Any,
) -> None:
    """Write the sites of `find_motifs`; `search` are arguments of it."""
    columns, names = _COLUMNS[_kind(out)]
    columns = [name for name in columns if q_values or name != "q_value"]
    with _in_options(), opened(path, ALPHABETS[alphabet]) as fasta:
        bank = MotifBank.read(motifs, format=format, background=background)
        parts = stream_motifs(fasta, bank, progress=out != PIPE, **search)
        count, silent = 0, ()
        with output(out, force=force) as write:
            write("\t".join(names.get(name, name) for name in columns) + "\n")
            for hits in _together(parts) if q_values else parts:
                write(hits.lines(columns))
                count, silent = count + len(hits), hits.silent
    if silent:
        print(f"no site of {', '.join(silent)} can be as improbable as --p-value asks", file=sys.stderr)
    if out != PIPE:
        print(f"{count:,} sites of {len(bank):,} motifs in {len(fasta):,} sequences: {out} written")


def _kind(out: str) -> str:
    kind = ".tsv" if out == PIPE else Path(out).suffix
    if kind not in _COLUMNS:
        raise UserError(f"--out: expected a name in {' or '.join(_COLUMNS)}, received {out}")
    return kind


def _together(parts: Iterator[MotifHits]) -> list[MotifHits]:
    """All parts as one, because a q-value depends on all sites of its motif."""
    found = list(parts)
    return [joined(found)] if found else []


@contextmanager
def _in_options() -> Iterator[None]:
    """Within this block arguments of the library are called by their options."""
    try:
        yield
    except UserError as error:
        raise UserError(
            _ARGUMENTS.sub(lambda found: option(found[1]), str(error)).replace("--format=", "--format")
        ) from error
