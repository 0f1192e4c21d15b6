"""Leakage: test sequences that training has seen, as they are, reversed, or nearly so."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from io import TextIOBase
from typing import Any

import numpy as np

from biolayers.alphabet import DNA, Alphabet
from biolayers.comparing.sequences import Sequences, collect
from biolayers.comparing.similarity import Near, Search
from shared.errors import UserError
from shared.progress import bar

EXACT, REVERSED, NEAR = KINDS = ("exact", "reverse complement", "near")


@dataclass(frozen=True)
class Leak:
    """A test sequence and the training sequence that is most like it."""

    kind: str  # one of `KINDS`
    test: str  # names
    train: str
    test_index: int
    train_index: int
    strand: str  # "-" where the test sequence is like the reverse complement of the other
    identity: float  # the share of equal letters in their alignment
    coverage: float  # the share of the shorter one in the alignment; nan where it is estimated
    same_label: bool | None  # None where one of them has no label


@dataclass(frozen=True)
class Leakage:
    """What `leakage` found; prints as a few lines."""

    leaks: tuple[Leak, ...]
    train: int  # sequences
    test: int
    near: Near | None

    def __bool__(self) -> bool:
        return bool(self.leaks)

    def __len__(self) -> int:
        """How many test sequences have leaked."""
        return len(self.leaks)

    def count(self, kind: str) -> int:
        """How many of a kind: "exact", "reverse complement" or "near"."""
        return sum(leak.kind == kind for leak in self.leaks)

    def indices(self) -> list[int]:
        """The indices of the leaked test sequences: what an honest evaluation leaves out."""
        return [leak.test_index for leak in self.leaks]

    def write_csv(self, file: str | os.PathLike[str] | TextIOBase) -> None:
        """Write a table with a row for each leaked test sequence; its columns are the fields of `Leak`."""
        if isinstance(file, (str, os.PathLike)):
            with open(file, "w", encoding="utf-8", errors="surrogateescape", newline="") as opened:
                self.write_csv(opened)
            return
        table = csv.writer(file, lineterminator="\n")
        table.writerow(field.name for field in fields(Leak))
        for leak in self.leaks:
            cells = (f"{cell:.4f}" if isinstance(cell, float) else cell for cell in astuple(leak))
            table.writerow("" if cell is None else cell for cell in cells)

    def figure(self) -> Any:
        """A matplotlib figure: how many leaked test sequences there are at each identity."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        values = [[leak.identity for leak in self.leaks if leak.kind == kind] for kind in KINDS]
        low = min([0.95, *(leak.identity for leak in self.leaks)])
        axes.hist(values, bins=np.linspace(low, 1, 21).tolist(), stacked=True, label=KINDS)
        axes.set(xlabel="identity with a training sequence", ylabel="test sequences")
        axes.legend()
        return figure

    def __str__(self) -> str:
        if not self.leaks:
            what = "equal to" if self.near is None else "equal or similar to"
            return (
                f"no leakage: none of {self.test:,} test sequences is {what} one of the {self.train:,} for "
                "training"
            )
        counts = ", ".join(f"{self.count(kind):,} {kind}" for kind in KINDS)
        lines = [
            f"leakage: {len(self):,} of {self.test:,} test sequences ({len(self) / self.test:.1%}) are in "
            f"the {self.train:,} for training ({counts}); leave them out of the test, or split anew by "
            "similarity"
        ]
        lines += [
            f"  {leak.test} is like {leak.train} on strand {leak.strand}: {leak.kind}, "
            f"identity {leak.identity:.1%}"
            for leak in self.leaks[:5]
        ]
        if len(self) > 5:
            lines.append(f"  ... and {len(self) - 5:,} more")
        return "\n".join(lines)


def leakage(
    train: Any,
    test: Any,
    *,
    near: Near | None = Near(),  # noqa: B008 - it is frozen
    reverse_complement: bool = True,
    alphabet: Alphabet = DNA,
    progress: bool = False,
) -> Leakage:
    """Find the test sequences that training has seen: equal ones, reverse complements, and similar ones.

    Equal sequences are all found. Similar ones (see `Near`) are found by the words that they share, so that
    with few equal letters, or short sequences, some may be missed; what is reported is aligned, or estimated
    if `near` says so.

    Args:
        train: The sequences to train on: a dataset or `Subset`, a `Fasta` or the path of a file, a list of
            strings or of Biopython's records, or tokens (n, l) uint8.
        test: The sequences to test with, likewise.
        near: When two sequences are similar; None looks for equal ones only.
        reverse_complement: Whether the other strand counts; alphabets without complement have one strand.
        alphabet: Of sequences that do not bring their own.
        progress: Whether to show a bar.

    Returns:
        A report with the likest training sequence of every test sequence that has one.

    Raises:
        UserError: A source is nothing of the above, or the two have different alphabets.

    Example:
        >>> report = leakage(["ACGTTGCAAC", "GGGGGCCCCA"], ["TTTTTTTTTA", "GTTGCAACGT"])
        >>> report.leaks[0].kind, report.leaks[0].strand, report.indices()
        ('reverse complement', '-', [1])
    """
    known = collect(train, alphabet, what="train")
    tested = collect(test, alphabet, what="test")
    if known.alphabet.letters != tested.alphabet.letters:
        raise UserError(
            f"leakage: expected sequences of one alphabet, received {known.alphabet} and {tested.alphabet}"
        )
    found = dict(_equal(known, tested, reverse_complement=reverse_complement))
    if near is not None and len(known) and len(tested):
        rest = np.array([i for i in range(len(tested)) if i not in found], np.int64)
        for leak in _similar(known, tested, rest, near, reverse_complement, progress):
            found[leak.test_index] = leak
    leaks = tuple(found[i] for i in sorted(found))
    return Leakage(leaks, len(known), len(tested), near)


def _equal(known: Sequences, tested: Sequences, *, reverse_complement: bool) -> Iterator[tuple[int, Leak]]:
    """Equal test sequences, those on the same strand first."""
    places: dict[tuple[bytes, bool], int] = {}
    for i, (forward, key) in enumerate(known.digests(reverse_complement=reverse_complement)):
        places.setdefault((key, forward), i)
    for i, (forward, key) in enumerate(tested.digests(reverse_complement=reverse_complement)):
        for strand, kind in (("+", EXACT), ("-", REVERSED)):
            place = places.get((key, forward if strand == "+" else not forward))
            if place is not None and known.edges[place] < known.edges[place + 1]:
                yield i, _leak(known, tested, kind, i, place, strand, 1.0, 1.0)
                break


def _similar(
    known: Sequences,
    tested: Sequences,
    rest: np.ndarray,
    near: Near,
    reverse_complement: bool,
    progress: bool,
) -> Iterator[Leak]:
    """For each of the other test sequences the similar training sequence with most equal letters."""
    search = Search(tested.take(rest), known, near, reverse_complement=reverse_complement)
    with bar(len(rest), "test sequences", show=progress) as advance:
        done = 0
        for stop, candidates in search:
            pairs = search.check(candidates)
            best = np.lexsort((pairs.target, -np.nan_to_num(pairs.coverage), -pairs.identity, pairs.query))
            _, first = np.unique(pairs.query[best], return_index=True)
            for i in best[first].tolist():
                strand = "-" if pairs.reverse[i] else "+"
                shares = float(pairs.identity[i]), float(pairs.coverage[i])
                row = int(rest[pairs.query[i]])
                yield _leak(known, tested, NEAR, row, int(pairs.target[i]), strand, *shares)
            advance(stop - done)
            done = stop


def _leak(
    known: Sequences,
    tested: Sequences,
    kind: str,
    test: int,
    train: int,
    strand: str,
    identity: float,
    coverage: float,
) -> Leak:
    same = None
    if known.labels is not None and tested.labels is not None:
        pair = known.labels[train], tested.labels[test]
        same = None if min(pair) < 0 else bool(pair[0] == pair[1])
    return Leak(kind, tested.names[test], known.names[train], test, train, strand, identity, coverage, same)


def leaks_between(parts: Sequence[Any], names: Sequence[str], **options: Any) -> dict[str, Leakage]:
    """The leakage of every later part in every earlier one, by text such as "test in train".

    Args:
        parts: The parts of a split, the one to train on first.
        names: Of the parts.
        options: As of `leakage`.

    Example:
        >>> found = leaks_between([["ACGTACGA"], ["CCCCCCCC"], ["ACGTACGA"]], ["train", "val", "test"])
        >>> {what: len(report) for what, report in found.items()}
        {'val in train': 0, 'test in train': 1, 'test in val': 0}
    """
    return {
        f"{names[j]} in {names[i]}": leakage(parts[i], parts[j], **options)
        for j in range(len(parts))
        for i in range(j)
    }
