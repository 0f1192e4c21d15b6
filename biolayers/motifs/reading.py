"""Files of motifs in the formats of JASPAR, MEME and TRANSFAC, read by Biopython.

Biopython's parsers pass over what they cannot read (a last record that is cut off, a matrix with a short
row) and round the counts of a MEME file to whole sites; here the first is an error, and the second does not
happen.
"""

import io
import os
import re
from pathlib import Path
from typing import Any

from biolayers.motifs.errors import MotifError
from biolayers.motifs.motif import SITES, Motif

# Of each format: Biopython's name for it, how a text begins, and what begins a matrix
_FORMATS = {
    "jaspar": ("jaspar", r">", r"^>[ \t]*(.*)$"),
    "meme": ("minimal", r"MEME version", r"^MOTIF[ \t]+(.*)$"),
    "transfac": ("transfac", r"(VV|AC|ID|NA|XX|DE|P0|PO)\s", r"^(P0|PO)\s.*$"),
}
_MATRIX = re.compile(r"^letter-probability matrix:.*$", re.MULTILINE)
_NSITES, _WIDTH = re.compile(r"nsites=\s*(\S+)"), re.compile(r"\bw=\s*(\d+)")
_SCALE = 10**6  # with this many times more sites, rounding to whole ones changes nothing
_UNIFORM = "Background letter frequencies\nA 0.25 C 0.25 G 0.25 {t} 0.25\n\n"


def read(path: str | os.PathLike[str], *, format: str | None = None, **fields: Any) -> list[Motif]:
    """The motifs of a file, in its order.

    Args:
        path: Of the file.
        format: "jaspar", "meme" or "transfac"; by default what the text begins like.
        fields: Arguments of `Motif`, such as `pseudocount` and `background`, in place of the file's.

    Raises:
        MotifError: The file cannot be read, has no motif, or is not well formed (with the line).
    """
    path = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MotifError(f"{path}: expected a file of motifs, but it cannot be read: {reason}") from error
    if format is not None and format not in _FORMATS:
        raise MotifError(f"format: expected one of {', '.join(_FORMATS)}, received {format!r}")
    format = format or _guess(path, text)
    heads = list(re.finditer(_FORMATS[format][2], text, re.MULTILINE))
    if not heads:
        raise MotifError(f"{path}: expected at least one motif in the format {format}, received none")
    parsed = _of_meme(path, text) if format == "meme" else _parsed(path, format, text)
    places = [text.count("\n", 0, head.start()) + 1 for head in heads]
    if len(parsed) != len(heads):
        raise MotifError(
            f"{path}, line {places[_first_lost(format, heads, parsed)]}: expected a whole matrix after this "
            f"line; {len(heads)} begin in the file, {len(parsed)} can be read"
        )
    if format == "meme":  # Biopython leaves out all but the first word of a name
        fields_of = [{"name": head[1].strip()} for head in heads]
    else:
        fields_of = [{} for _ in heads]
    return [
        _made(f"{path}, line {place}", each, known | fields)
        for place, each, known in zip(places, parsed, fields_of, strict=True)
    ]


def _guess(path: str, text: str) -> str:
    for format, (_, beginning, _) in _FORMATS.items():
        if re.match(beginning, text.lstrip()):
            return format
    raise MotifError(
        f'{path}: expected "MEME version", ">" (JASPAR) or the fields of TRANSFAC at the beginning, received '
        f"{text.lstrip()[:10]!r}; name the format with format="
    )


def _parsed(path: str, format: str, text: str, *, shift: int = 0) -> list[Any]:
    """What Biopython reads; `shift` lines of the text are not the file's."""
    from Bio import motifs

    lines = _Lines(text)
    try:
        return list(motifs.parse(lines, _FORMATS[format][0], strict=False))
    except Exception as error:  # Biopython's parsers raise whatever the text leads them into
        raise MotifError(
            f"{path}, line {max(1, lines.count - shift)}: not well formed in the format {format}: {error}"
        ) from error


def _of_meme(path: str, text: str) -> list[Any]:
    shift = 0
    if "Background letter frequencies" not in text:  # MEME may leave it out, Biopython may not
        t = "U" if re.search(r"^ALPHABET= *ACGU", text, re.MULTILINE) else "T"
        text = re.sub(r"^MOTIF", _UNIFORM.format(t=t) + "MOTIF", text, count=1, flags=re.MULTILINE)
        shift = 3
    parsed = _parsed(path, "meme", _MATRIX.sub(_with_more_sites, text), shift=shift)
    for each, matrix in zip(parsed, _MATRIX.finditer(text), strict=False):
        width = _WIDTH.search(matrix[0])
        if width and int(width[1]) != each.length:
            line = text.count("\n", 0, matrix.start()) + 1 - shift
            raise MotifError(
                f"{path}, line {line}: expected {width[1]} rows of 4 probabilities, received {each.length}"
            )
        each.counts = {letter: [n / _SCALE for n in row] for letter, row in each.counts.items()}
    return parsed


def _with_more_sites(matrix: re.Match[str]) -> str:
    given = _NSITES.search(matrix[0])
    try:
        sites = round(float(given[1]) * _SCALE) if given else SITES * _SCALE
    except ValueError:
        return matrix[0]  # Biopython says what is wrong
    return f"{_NSITES.sub('', matrix[0])} nsites= {sites or SITES * _SCALE}"


def _first_lost(format: str, heads: list[re.Match[str]], parsed: list[Any]) -> int:
    """Which of the matrices is the first that was not read; JASPAR's can be told by their names."""
    for i, (head, each) in enumerate(zip(heads, parsed, strict=False)):
        if format == "jaspar" and head[1].split()[:1] != [each.matrix_id]:
            return i
    return min(len(parsed), len(heads) - 1)


def _made(where: str, parsed: Any, fields: dict[str, Any]) -> Motif:
    try:
        return Motif.from_biopython(parsed, **fields)
    except MotifError as error:
        raise MotifError(f"{where}: {error}") from error


class _Lines(io.StringIO):
    """Text that knows how many of its lines have been read."""

    count = 0

    def __next__(self) -> str:
        self.count += 1
        return super().__next__()
