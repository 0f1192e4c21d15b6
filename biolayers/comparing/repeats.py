"""Which sequences occur more than once, in a dataset or in several parts of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from biolayers.comparing.sequences import of_dataset, resolve, strata_of

Part = Dataset  # a `FastaDataset` or another of its kind, or a `Subset` of one


@dataclass(frozen=True)
class DuplicateGroup:
    """Records with one sequence: in which part, at which index of that part, and by which name."""

    parts: tuple[int, ...]
    indices: tuple[int, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    reversed: tuple[bool, ...]  # True where a record equals the first one only as reverse complement

    @property
    def conflicting(self) -> bool:
        """Whether the records disagree about the label."""
        return len(set(self.labels)) > 1


@dataclass(frozen=True)
class Duplicates:
    """What `duplicates` found; prints as one line."""

    records: int
    parts: int
    groups: tuple[DuplicateGroup, ...]

    def __bool__(self) -> bool:
        return bool(self.groups)

    @property
    def repeated(self) -> int:
        """How many records belong to a group."""
        return sum(len(group.names) for group in self.groups)

    @property
    def exact(self) -> int:
        """How many groups hold records (of two parts, where there are several) that are equal as written."""
        return sum(_is_exact(group, self.parts) for group in self.groups)

    @property
    def reverse_complements(self) -> int:
        """How many groups count only because of reverse complements."""
        return len(self.groups) - self.exact

    @property
    def conflicting(self) -> int:
        """How many groups disagree about the label."""
        return sum(group.conflicting for group in self.groups)

    def indices(self, part: int) -> list[int]:
        """The indices within `part` of records that occur elsewhere: what a strict evaluation leaves out."""
        return sorted(
            i for group in self.groups for p, i in zip(group.parts, group.indices, strict=True) if p == part
        )

    def __str__(self) -> str:
        where = "between the parts" if self.parts > 1 else "in the dataset"
        if not self.groups:
            return f"no sequence occurs twice {where} ({self.records:,} records)"
        return (
            f"{len(self.groups):,} sequences occur more than once {where}, in {self.repeated:,} of "
            f"{self.records:,} records ({self.exact:,} equal, {self.reverse_complements:,} only as reverse "
            f"complement, {self.conflicting:,} with different labels)"
        )


def duplicates(dataset: Part | Sequence[Part], *, reverse_complement: bool = True) -> Duplicates:
    r"""Find sequences that occur more than once in a dataset, or in more than one of several parts.

    Args:
        dataset: A `FastaDataset` or `Subset`, or a list or `Split` of them (parts of one dataset or of
            several): then only sequences that occur in at least two parts are reported.
        reverse_complement: Whether a sequence and its reverse complement count as equal.

    Example:
        >>> import tempfile, os
        >>> from biolayers import FastaDataset
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">a\nAC\n>b\nGG\n>c\nGT\n")
        >>> found = duplicates(FastaDataset(path, unlabelled=True))
        >>> found.groups[0].names, found.reverse_complements
        (('a', 'c'), 1)
    """
    parts = [dataset] if isinstance(dataset, Dataset) else list(dataset)
    members: dict[bytes, list[tuple[int, int, bool]]] = {}
    resolved = [resolve(part) for part in parts]
    labels = [strata_of(base)[indices] for base, indices in resolved]
    for part, (base, indices) in enumerate(resolved):
        digests = of_dataset(base, indices).digests(reverse_complement=reverse_complement)
        for place, (forward, key) in enumerate(digests):
            members.setdefault(key, []).append((part, place, forward))
    found = []
    for group in members.values():
        if len(group) > 1 and (len(parts) == 1 or len({part for part, _, _ in group}) > 1):
            found.append(_described(resolved, labels, group))
    return Duplicates(sum(len(indices) for _, indices in resolved), len(parts), tuple(found))


def _described(
    resolved: list[tuple[Any, np.ndarray]], labels: list[np.ndarray], group: list[tuple[int, int, bool]]
) -> DuplicateGroup:
    places = [(resolved[part][0], int(resolved[part][1][place])) for part, place, _ in group]
    return DuplicateGroup(
        parts=tuple(part for part, _, _ in group),
        indices=tuple(place for _, place, _ in group),
        names=tuple(base.name(index) for base, index in places),
        labels=tuple(int(labels[part][place]) for part, place, _ in group),
        reversed=tuple(forward != group[0][2] for _, _, forward in group),
    )


def _is_exact(group: DuplicateGroup, parts: int) -> bool:
    """Whether two records on different sides (any two of one dataset) read the same forward."""
    for strand in (False, True):
        sides = [part for part, other in zip(group.parts, group.reversed, strict=True) if other == strand]
        if len(sides) > 1 and (parts == 1 or len(set(sides)) > 1):
            return True
    return False
