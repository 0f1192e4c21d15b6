"""What a user says about labels, checked and carried out: source, kind, what if one is missing."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biolayers.errors import FastaError
from biolayers.fasta import Fasta
from biolayers.labelled.labels import Cells, from_headers, from_mapping, from_table
from biolayers.labelled.targets import Labels, Where, columns, lacking, quantities, separated, single


@dataclass(frozen=True)
class Labelling:
    """Options of `FastaDataset` that concern labels; they are described there."""

    label_pattern: str | None = None
    labels: str | os.PathLike[str] | Mapping[str, Any] | None = None
    name_column: str | None = None
    label_column: str | Sequence[str] | None = None
    separator: str | None = None
    targets: str | Sequence[str] | None = None
    missing: str = "error"

    def __post_init__(self) -> None:
        if (self.name_column or self.label_column) and (
            self.labels is None or isinstance(self.labels, Mapping)
        ):
            raise FastaError(
                "FastaDataset: name_column and label_column belong to a table of labels; give labels="
            )
        kinds = {
            "several label columns": self._columns,
            "separator": self.separator is not None,
            "targets": self.regression,
        }
        chosen = [name for name, present in kinds.items() if present]
        if len(chosen) > 1 or (self.regression and self.label_column is not None):
            raise FastaError(
                f"FastaDataset: expected one kind of label, received {' and '.join(chosen) or 'none'}"
                + (" and label_column; targets names the columns itself" if self.label_column else "")
            )
        choices = ("error", "drop", "nan") if self.regression else ("error", "drop")
        if self.missing not in choices:
            expected = " or ".join(map(repr, choices))
            raise FastaError(f"FastaDataset: expected missing {expected}, received {self.missing!r}")

    @property
    def regression(self) -> bool:
        """Whether labels are numbers."""
        return self.targets is not None

    @property
    def _columns(self) -> bool:
        return self.label_column is not None and not isinstance(self.label_column, str)

    @property
    def titles(self) -> list[str]:
        """The names of the targets, else of the label columns; none where they have the usual name."""
        given = self.targets if self.regression else self.label_column
        return [] if given is None else [given] if isinstance(given, str) else list(given)

    def find(self, fasta: Fasta) -> list[Cells]:
        """The texts that label each record; None or empty ones only where `missing` or the kind admits it."""
        optional = self.missing != "error" or self.separator is not None
        if self.label_pattern is not None:
            return from_headers(fasta, self.label_pattern, self.titles, optional=optional)
        if isinstance(self.labels, Mapping):
            return from_mapping(fasta, self.labels, optional=optional)
        if self.labels is None:
            raise FastaError("FastaDataset: expected labels, received none")
        return from_table(
            fasta, self.labels, name_column=self.name_column, columns=self.titles, optional=optional
        )

    def kept(self, found: Sequence[Cells]) -> list[bool]:
        """Which records stay: (n,)."""
        if self.missing != "drop":
            return [True] * len(found)
        if self.separator is not None:
            return [cells is not None for cells in found]  # an empty text means no class
        return [not lacking(cells, regression=self.regression) for cells in found]

    def numbers(
        self, found: Sequence[Cells], classes: Sequence[str] | None, *, where: Where, source: str
    ) -> Labels:
        """The labels as a tensor; `where` and `source` say for messages where a record is."""
        if self.regression:
            flat = isinstance(self.targets, str)
            return quantities(found, self.titles, flat=flat, missing=self.missing, where=where)
        full = [self._cells(cells, i, where) for i, cells in enumerate(found)]
        if self.separator is not None:
            return separated([cells[0] for cells in full], self.separator, classes, where=where)
        if self._columns:
            return columns(full, self.titles, where=where)
        return single([cells[0] for cells in full], classes, where=where, source=source)

    @staticmethod
    def _cells(cells: Cells, i: int, where: Where) -> list[str]:
        if cells is None:
            raise FastaError(
                f"{where(i)}: expected a label, received none; choose missing='drop' to leave it out"
            )
        return cells
