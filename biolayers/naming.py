"""What names of contigs and titles of columns are likely to mean."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

_MITOCHONDRION = {"chrM": ("MT", "M"), "MT": ("chrM", "chrMT"), "M": ("chrM", "MT"), "chrMT": ("MT", "chrM")}


def other_style(name: str, names: Collection[str]) -> str | None:
    """The same contig in the style of UCSC ("chr1", "chrM") or of Ensembl ("1", "MT"), if it is in `names`.

    >>> other_style("chr1", {"1", "2"}), other_style("MT", {"chrM"}), other_style("3", {"1"})
    ('1', 'chrM', None)
    """
    for candidate in (f"chr{name}", name.removeprefix("chr"), *_MITOCHONDRION.get(name, ())):
        if candidate != name and candidate in names:
            return candidate
    return None


def titles_of(frame: Any) -> list[Any]:
    """The titles of a pandas or Polars frame, or of a mapping from title to column."""
    return list(frame.keys()) if isinstance(frame, Mapping) else list(frame.columns)


def usual_title(titles: Sequence[Any], usual: Sequence[str]) -> Any | None:
    """The first usual title that is there, as it is written there; case, "_" and a leading "#" do not count.

    >>> usual_title(["#CHROM", "Start"], ("contig", "chrom"))
    '#CHROM'
    """
    plain = {str(title).lower().replace("_", "").lstrip("#"): title for title in titles}
    return next((plain[title] for title in usual if title in plain), None)
