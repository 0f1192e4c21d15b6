"""Variants from what a user has in memory."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from biolayers.naming import titles_of, usual_title
from biolayers.variants.alleles import check_letters
from biolayers.variants.errors import VariantError
from biolayers.variants.table import Variants

# What tables call the columns, see `usual_title`.
_TITLES = {
    "contig": ("contig", "chrom", "chromosome", "chr", "seqname"),
    "position": ("position", "start", "pos"),
    "ref": ("ref", "reference", "refallele"),
    "alt": ("alt", "alternative", "alternate", "altallele"),
    "id": ("id", "name", "rsid", "variantid"),
}


def of(given: Any, *, one_based: bool | None = None) -> Variants:
    """Variants from what a user has.

    Args:
        given: `Variants` (returned as they are), the path of a VCF or BCF file, a list of `(contig, position,
            ref, alt)` or `(contig, position, ref, alt, id)`, or a pandas or Polars frame or a mapping from
            title to column. Several alternatives may be given as "G,T".
        one_based: Whether positions of a list or frame count from 1, as VCF files do; by default they count
            from 0. A column that is called "pos", as in VCF files, wants to be told.

    Raises:
        VariantError: It is something else, a column is missing, an allele is no string of letters, or both
            alleles are the same.

    Example:
        >>> variants = of({"chrom": ["chr1"], "pos": [10], "ref": ["a"], "alt": ["G,AT"]}, one_based=True)
        >>> variants[0], variants[1]
        (('chr1', 9, 'A', 'G'), ('chr1', 9, 'A', 'AT'))
    """
    if isinstance(given, Variants):
        return given
    if isinstance(given, (str, os.PathLike)):
        return Variants.read(given)
    if isinstance(given, Mapping) or hasattr(given, "columns"):
        return _of_columns(given, one_based)
    if isinstance(given, Iterable):
        return _of_rows(list(given), bool(one_based))
    raise VariantError(
        "variants: expected Variants, the path of a VCF file, a list of (contig, position, ref, alt) or a "
        f"frame, received {type(given).__name__}"
    )


def _of_rows(rows: list[Any], one_based: bool) -> Variants:
    split: list[tuple[Any, ...]] = []
    for i, row in enumerate(rows):
        if not isinstance(row, (tuple, list)) or len(row) not in (4, 5):
            raise VariantError(
                f"variant {i}: expected (contig, position, ref, alt) or (contig, position, ref, alt, id), "
                f"received {row!r}"
            )
        contig, position, ref, alts = row[:4]
        if not isinstance(position, (int, np.integer)) or isinstance(position, bool):
            raise VariantError(f"variant {i}: expected a whole number as position, received {position!r}")
        for alt in alts.split(",") if isinstance(alts, str) else [alts]:
            check_letters(f"variant {i}", ref, alt)
            name = "" if len(row) == 4 or _is_nothing(row[4]) else str(row[4])
            split.append((str(contig), int(position) - one_based, ref, alt, name, i))
    return Variants.of_columns(*(zip(*split, strict=True) if split else [[]] * 6))


def _of_columns(frame: Any, one_based: bool | None) -> Variants:
    titles = titles_of(frame)
    found = {name: usual_title(titles, known) for name, known in _TITLES.items()}
    for name, title in found.items():
        if title is None and name != "id":
            raise VariantError(
                f"variants: expected a column {name!r} (or {', '.join(_TITLES[name][1:])}), received {titles}"
            )
    if one_based is None and found["position"] == usual_title(titles, ["pos"]):
        raise VariantError(
            f"variants: expected one_based=True or one_based=False for the column {found['position']!r}, "
            "received neither; positions in VCF files count from 1"
        )
    columns = [_cells(frame[title]) for title in found.values() if title is not None]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise VariantError(f"variants: expected columns of one length, received lengths {lengths}")
    return _of_rows(list(zip(*columns, strict=True)), bool(one_based))


def _cells(column: Any) -> Sequence[Any]:
    return np.asarray(column).tolist()


def _is_nothing(cell: Any) -> bool:
    """Whether a cell of a frame is empty: None or nan."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
