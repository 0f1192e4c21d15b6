"""Sites of motifs as columns, with p- and q-values; to pandas, to intervals, to BED and to TSV."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biolayers.motifs.errors import MotifError

if TYPE_CHECKING:
    import pandas as pd

    from biolayers.intervals import Intervals

_NUMBERS = ("start", "end", "score", "p_value", "q_value")
TITLES = ("motif", "sequence", "start", "end", "strand", "score", "p_value", "q_value")


@dataclass(frozen=True, eq=False)
class MotifHits:
    """Sites of motifs, by sequence and place; made by `find_motifs`.

    Args:
        motif_names: The names of all motifs.
        sequence_names: The names of all sequences.
        motif: (n,) int64: the number of each site's motif.
        sequence: (n,) int64: the number of its sequence.
        start: (n,) int64: 0-based.
        strand: (n,) int8: 1 or -1.
        score: (n,) float64: log-odds in bits.
        p_value: (n,) float64: the chance that a random site scores at least as much.
        widths: (m,) int64: the positions of each motif.
        tests: (m,) int64: how many sites of each motif were looked at, on all strands.
        silent: Names of motifs that cannot have a site, because even their best word is too probable.

    Example:
        >>> from biolayers.motifs.search import find_motifs
        >>> hits = find_motifs("GGTATAAATGG", ["TATAAAT"], p_value=1e-3)
        >>> hits
        MotifHits(1 site of 1 motif in 1 sequence)
        >>> hits.start, hits.end, round(float(hits.score[0]), 1)
        (array([2]), array([9]), 14.0)
    """

    motif_names: Sequence[str]
    sequence_names: Sequence[str]
    motif: np.ndarray
    sequence: np.ndarray
    start: np.ndarray
    strand: np.ndarray
    score: np.ndarray
    p_value: np.ndarray
    widths: np.ndarray
    tests: np.ndarray
    silent: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """How many sites there are."""
        return len(self.start)

    def __repr__(self) -> str:
        return (
            f"MotifHits({_many(len(self), 'site')} of {_many(len(self.motif_names), 'motif')} "
            f"in {_many(len(self.sequence_names), 'sequence')})"
        )

    @property
    def end(self) -> np.ndarray:
        """Half-open: (n,) int64."""
        return self.start + self.widths[self.motif]

    @property
    def q_value(self) -> np.ndarray:
        """The false discovery rate at which each site is just found, (n,) float64.

        After Benjamini & Hochberg (1995), for each motif by itself, among all of its sites that were looked
        at: q = min over sites at least as improbable of p * tests / rank. Sites that were not kept have
        larger p-values and change nothing. No share of true nulls is estimated (Storey's pi_0 is 1).
        """
        return _q_values(self.motif, self.p_value, self.tests)

    def take(self, chosen: Any) -> "MotifHits":
        """Some of the sites, by mask, numbers or slice; the numbers of tests stay those of the search."""
        columns = ("motif", "sequence", "start", "strand", "score", "p_value")
        return MotifHits(
            **{name: value for name, value in vars(self).items() if name not in columns},
            **{name: getattr(self, name)[chosen] for name in columns},
        )

    def counts(self) -> np.ndarray:
        """How many sites each motif has in each sequence: (sequences, motifs) int64."""
        shape = (len(self.sequence_names), len(self.motif_names))
        flat = np.bincount(self.sequence * shape[1] + self.motif, minlength=shape[0] * shape[1])
        return flat.reshape(shape)

    def columns(self) -> dict[str, np.ndarray]:
        """The table by title: motif, sequence, start, end, strand, score, p_value, q_value."""
        return {
            "motif": np.array(self.motif_names, object)[self.motif],
            "sequence": np.array(self.sequence_names, object)[self.sequence],
            "strand": np.where(self.strand > 0, "+", "-"),
            **{name: getattr(self, name) for name in _NUMBERS},
        }

    def to_pandas(self) -> "pd.DataFrame":
        """The table as a pandas frame.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MotifError("to_pandas: needs pandas; install it with: pip install pandas") from error
        return pd.DataFrame(self.columns())[list(TITLES)]

    def to_intervals(self) -> "Intervals":
        """The sites as intervals named like their motifs, with the columns p_value and q_value."""
        from biolayers.intervals import Intervals

        columns = self.columns()
        return Intervals(
            tuple(self.sequence_names),
            self.sequence,
            self.start,
            self.end,
            self.strand,
            {
                "name": columns["motif"],
                "score": self.score,
                "p_value": _exponential(self.p_value),
                "q_value": _exponential(self.q_value),
            },
            source="motif hits",
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a table: BED if the name ends in .bed or .bed.gz, else text with tabs and a line of titles.

        Raises:
            MotifError: A name holds a tab or a newline.
        """
        if os.fspath(path).endswith((".bed", ".bed.gz")):
            self.to_intervals().write(path)
            return
        from shared.app.runs import fresh_file

        with fresh_file(Path(path)) as file:
            file.write("\t".join(TITLES) + "\n")
            file.write(self.lines())

    def lines(self, titles: Sequence[str] = TITLES) -> str:
        """The rows of the table as text with tabs.

        Args:
            titles: Which columns, in this order.

        Raises:
            MotifError: A name holds a tab or a newline.
        """
        columns = self.columns()
        texts = {
            name: _exponential(columns[name]) if name.endswith("value") else columns[name].tolist()
            for name in titles
        }
        if "score" in texts:
            texts["score"] = [f"{score:.4f}" for score in self.score]
        text = "".join("\t".join(map(str, row)) + "\n" for row in zip(*texts.values(), strict=True))
        if text.count("\t") != (len(titles) - 1) * len(self) or text.count("\n") != len(self):
            raise MotifError("hits: expected names without tabs and newlines, received some with them")
        return text


def joined(parts: Sequence[MotifHits]) -> MotifHits:
    """The sites of several searches of the same motifs in the same list of sequences, one after the other."""
    columns = ("motif", "sequence", "start", "strand", "score", "p_value")
    return MotifHits(
        parts[0].motif_names,
        parts[0].sequence_names,
        *(np.concatenate([getattr(part, name) for part in parts]) for name in columns),
        parts[0].widths,
        np.sum([part.tests for part in parts], axis=0),
        parts[0].silent,
    )


def _q_values(motif: np.ndarray, p_value: np.ndarray, tests: np.ndarray) -> np.ndarray:
    order = np.lexsort((p_value, motif))
    groups, p = motif[order], p_value[order]
    first = np.searchsorted(groups, np.arange(len(tests)))
    rank = np.arange(len(order)) - first[groups] + 1
    found = p * tests[groups] / rank
    q = np.empty_like(p)
    for start, stop in zip(first, np.append(first[1:], len(order)), strict=True):
        if stop > start:
            q[order[start:stop]] = np.minimum.accumulate(found[start:stop][::-1])[::-1]
    return np.minimum(q, 1.0)


def _exponential(values: np.ndarray) -> np.ndarray:
    return np.array([f"{value:.4g}" for value in values], object)


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
