"""Honest splits: by sequence, by similarity, by contig or by group, each class in every part."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from biolayers.comparing.allotment import allot
from biolayers.comparing.repeats import Duplicates, duplicates
from biolayers.comparing.sequences import of_dataset, resolve, strata_of
from biolayers.comparing.similarity import Near, clusters
from shared.errors import UserError


class Split(Sequence[Subset]):
    """The parts of a dataset, to be unpacked or indexed; prints what was reached.

    Args:
        parts: The parts, in the order of the fractions.
        by: What was kept together.
        wanted: The fractions that were asked for; None where the groups of each part were named.
        groups: (n,) for each sample of the dataset a number; equal ones were kept together.
        moved: How many groups were moved from where they fitted best, so that no part lacks a class.
        classes: The names of the classes, and how many samples of each are in each part.
        repeated: The sequences that are in more than one part, where sequences were not looked at.
    """

    def __init__(
        self,
        parts: Sequence[Subset],
        *,
        by: str,
        wanted: tuple[float, ...] | None,
        groups: np.ndarray,
        moved: int,
        classes: dict[str, list[int]],
        repeated: Duplicates | None = None,
    ) -> None:
        self.parts = tuple(parts)
        self.by, self.wanted, self.groups = by, wanted, groups
        self.moved, self.classes, self.repeated = moved, classes, repeated

    def __len__(self) -> int:
        """How many parts."""
        return len(self.parts)

    def __getitem__(self, part: int) -> Subset:  # type: ignore[override]
        return self.parts[part]

    @property
    def reached(self) -> tuple[float, ...]:
        """The share of each part."""
        return tuple(len(part) / max(1, len(self.groups)) for part in self.parts)

    def __str__(self) -> str:
        sizes = np.unique(self.groups, return_counts=True)[1]
        many = sizes[sizes > 1]
        reached = zip(self.parts, self.reached, strict=True)
        shares = ", ".join(f"{len(part):,} ({share:.1%})" for part, share in reached)
        wanted = "" if self.wanted is None else f", wanted {', '.join(f'{w:.1%}' for w in self.wanted)}"
        lines = [
            f"{len(self.groups):,} samples split by {self.by} into {shares}{wanted}",
            f"{len(sizes):,} groups, {len(many):,} of several samples ({int(many.sum()):,} in all, the "
            f"largest {int(sizes.max(initial=0)):,}); {self.moved:,} moved so that no part lacks a class",
        ]
        for name, counts in self.classes.items():
            lines.append(f"class {name}: {', '.join(f'{count:,}' for count in counts)}")
        if self.repeated is not None:
            lines.append(f"sequences were not looked at: {self.repeated}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Split({', '.join(str(len(part)) for part in self.parts)} samples by {self.by})"


def split(
    dataset: Dataset,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    by: str = "sequence",
    groups: Sequence[Any] | Mapping[str, Any] | str | None = None,
    members: Sequence[Sequence[str] | None] | None = None,
    near: Near | None = None,
    stratify: bool = True,
    seed: int = 0,
    reverse_complement: bool = True,
    progress: bool = False,
) -> Split:
    r"""Divide a dataset at random into parts that share no sequence and hold each class in given fractions.

    What belongs together travels together. Sizes are exact where single samples allow it: groups are placed
    first, the largest first, each into a part that has room, and single samples fill what is left.

    Args:
        dataset: A `FastaDataset` or `SequenceDataset`, or a `Subset` of one.
        fractions: The share of each part, each above 0, summing to 1.
        by: What belongs together: equal sequences ("sequence"); sequences that a chain of similar ones
            connects ("similarity", which also keeps equal ones together); samples of one contig ("contig":
            what the dataset says, or the name up to its last `:`, as in `chr1:100-200`); or of one group
            ("group").
        groups: The group of each sample, or a mapping from name to group, or a pattern whose first group is
            searched for in each name, as `^([^_]+)`. For "contig" it takes the place of the rule above.
        members: The groups of each part instead of fractions; None for the one part that gets all others:
            `members=(None, ["chr8"], ["chr9", "chr10"])`.
        near: When two sequences are similar; by default `Near()`.
        stratify: Whether each part should have each class in its fraction.
        seed: The same seed gives the same parts.
        reverse_complement: Whether a sequence and its reverse complement count as equal, or similar;
            alphabets without complement know only one strand.
        progress: Whether to show a bar while sequences are compared.

    Returns:
        The parts as `Subset`s, their indices ascending; `print(split(...))` says what was reached.

    Raises:
        UserError: An argument is not as it must be, or a class has fewer different groups than there are
            parts.

    Example:
        >>> import tempfile, os
        >>> from biolayers import FastaDataset
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">a\nAC\n>b\nGG\n>c\nAC\n>d\nTT\n")
        >>> train, test = split(FastaDataset(path, unlabelled=True), (0.5, 0.5), seed=1)
        >>> sorted(train.indices + test.indices), {0, 2} <= set(train.indices) or {0, 2} <= set(test.indices)
        ([0, 1, 2, 3], True)
    """
    base, indices = resolve(dataset)
    _check_choices(by, groups, members, near)
    group = _groups(base, indices, by, groups, near, reverse_complement, progress)  # (n,)
    kinds, kind = np.unique(strata_of(base)[indices], return_inverse=True)
    names = _class_names(base, kinds)
    strata = kind if stratify else np.zeros_like(kind)
    if members is not None:
        parts, moved, wanted = _named(group, members), 0, None
        number = len(members)
    else:
        shares = _shares(fractions)
        number, wanted = len(shares), tuple(shares.tolist())
        _check_sizes(names if stratify else [""], strata, group, number, by)
        parts, moved = allot(
            strata, np.unique(group, return_inverse=True)[1], shares, np.random.default_rng(seed)
        )
    subsets = [Subset(dataset, np.flatnonzero(parts == part).tolist()) for part in range(number)]
    counts = {
        name: np.bincount(parts[kind == i], minlength=number).tolist() for i, name in enumerate(names) if name
    }
    repeated = None
    if by in ("contig", "group") and hasattr(base, "rows"):
        repeated = duplicates(subsets, reverse_complement=reverse_complement)
    numbers = np.unique(group, return_inverse=True)[1]
    return Split(
        subsets, by=by, wanted=wanted, groups=numbers, moved=moved, classes=counts, repeated=repeated
    )


def _class_names(base: Any, kinds: np.ndarray) -> list[str]:
    """Of the classes that occur; of combinations of classes their numbers, of no classes nothing."""
    single = getattr(base, "kind", "class") == "class"
    return [
        "" if number < 0 else base.classes[number] if single else f"combination {number}"
        for number in kinds.tolist()
    ]


def _check_choices(by: str, groups: Any, members: Any, near: Near | None) -> None:
    if by not in ("sequence", "similarity", "contig", "group"):
        raise UserError(
            f"split: expected by to be 'sequence', 'similarity', 'contig' or 'group', received {by!r}"
        )
    if by == "group" and groups is None:
        raise UserError("split: expected groups for by='group', received none; give the group of each sample")
    for name, given, wanted in (
        ("groups", groups, ("contig", "group")),
        ("members", members, ("contig", "group")),
        ("near", near, ("similarity",)),
    ):
        if given is not None and by not in wanted:
            raise UserError(
                f"split: expected {name} only with by={' or '.join(map(repr, wanted))}, not {by!r}"
            )


def _shares(fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(fractions, float)
    if shares.ndim != 1 or not len(shares) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise UserError(f"split: expected fractions above 0 that sum to 1, received {tuple(fractions)}")
    return shares


def _groups(
    base: Any,
    indices: np.ndarray,
    by: str,
    groups: Any,
    near: Near | None,
    reverse_complement: bool,
    progress: bool,
) -> np.ndarray:
    """What each sample belongs to: (n,) of numbers, or of names."""
    if by in ("sequence", "similarity"):
        return clusters(
            of_dataset(base, indices),
            None if by == "sequence" else near or Near(),
            reverse_complement=reverse_complement,
            progress=progress,
        )
    names = [base.name(i) for i in indices.tolist()]
    if groups is None and hasattr(base, "contigs"):
        return np.asarray(base.contigs).astype(str)[indices]
    if groups is None:
        return np.array([_contig(name) for name in names])
    if isinstance(groups, str):
        return np.array([_found(groups, name) for name in names])
    if isinstance(groups, Mapping):
        missing = next((name for name in names if name not in groups), None)
        if missing is not None:
            raise UserError(f"split: expected a group for every sample, received none for {missing!r}")
        return np.array([str(groups[name]) for name in names])
    if len(groups) != len(names):
        raise UserError(f"split: expected {len(names)} groups, one per sample, received {len(groups)}")
    return np.array([str(each) for each in groups])


def _contig(name: str) -> str:
    contig, colon, _ = name.rpartition(":")
    return contig if colon else name


def _found(pattern: str, name: str) -> str:
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise UserError(f"split: groups {pattern!r}: expected a regular expression: {error}") from error
    if match is None or not match.groups() or match[1] is None:
        raise UserError(
            f"split: expected a group by the pattern {pattern!r}, received the name {name!r}; "
            "mend the pattern, which needs a group such as (chr\\w+)"
        )
    return match[1]


def _named(group: np.ndarray, members: Sequence[Sequence[str] | None]) -> np.ndarray:
    """The part of each sample by the names of its part's groups: (n,)."""
    parts = np.full(len(group), -1)
    known = set(group.tolist())
    for number, names in enumerate(members):
        for name in names or ():
            if name not in known:
                shown = ", ".join(sorted(known)[:5])
                raise UserError(
                    f"split: expected members that are groups, received {name!r}; there are {shown}"
                )
            if (parts[group == name] >= 0).any():
                raise UserError(f"split: expected each group in one part, received {name!r} in two")
            parts[group == name] = number
    rest = [number for number, names in enumerate(members) if names is None]
    left = sorted(set(group[parts < 0].tolist()))
    if len(rest) > 1 or (left and not rest):
        what = "None twice" if len(rest) > 1 else f"no part for {', '.join(left[:5])}"
        raise UserError(
            "split: expected every group in members, or None for the one part that gets all others; "
            f"received {what}"
        )
    parts[parts < 0] = rest[0] if rest else 0
    return parts


def _check_sizes(names: list[str], strata: np.ndarray, groups: np.ndarray, parts: int, by: str) -> None:
    what = {"sequence": "sequences", "similarity": "clusters of similar sequences"}.get(by, f"{by}s")
    for number, name in enumerate(names):
        different = len(np.unique(groups[strata == number]))
        if different < parts:
            where = f"class {name!r}" if name else "the dataset"
            raise UserError(
                f"split: expected at least {parts} different {what} in {where}, one per part, "
                f"received {different}; add sequences, drop the class, or make fewer parts"
            )
