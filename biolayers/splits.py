"""Honest splits: stratified by label, no sequence on two sides; and the report of repeated sequences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from biolayers.dataset import FastaDataset
from shared.errors import UserError

Part = FastaDataset | Subset


def split(
    dataset: Part,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    seed: int = 0,
    reverse_complement: bool = True,
) -> list[Subset]:
    r"""Divide a dataset at random into parts that share no sequence and hold each class in given fractions.

    Equal sequences travel together. Sizes are exact where single sequences allow it: groups are placed first,
    the largest first, each into a part that has room, and single sequences fill what is left.

    Args:
        dataset: A `FastaDataset`, or a `Subset` of one.
        fractions: The share of each part, each above 0, summing to 1.
        seed: The same seed gives the same parts.
        reverse_complement: Whether a sequence and its reverse complement count as equal; alphabets without
            complement know only equal sequences.

    Returns:
        One `Subset` per fraction, its indices ascending.

    Raises:
        UserError: The fractions are not as they must be, or a class has fewer different sequences than there
            are parts.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">a\nAC\n>b\nGG\n>c\nAC\n>d\nTT\n")
        >>> train, test = split(FastaDataset(path, unlabelled=True), (0.5, 0.5), seed=1)
        >>> sorted(train.indices + test.indices), {0, 2} <= set(train.indices) or {0, 2} <= set(test.indices)
        ([0, 1, 2, 3], True)
    """
    shares = np.asarray(fractions, float)
    if shares.ndim != 1 or not len(shares) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise UserError(f"split: expected fractions above 0 that sum to 1, received {tuple(fractions)}")
    base, indices = _resolve(dataset)
    labels = base.labels[torch.from_numpy(indices)].numpy()
    classes, labels = np.unique(labels, return_inverse=True)
    groups = _groups(base, indices, reverse_complement=reverse_complement)
    _check_sizes(base, classes, labels, groups, len(shares))
    parts = _assign(labels, groups, shares, np.random.default_rng(seed))
    places = np.arange(len(indices))
    return [Subset(dataset, places[parts == part].tolist()) for part in range(len(shares))]


def _check_sizes(
    base: FastaDataset, classes: np.ndarray, labels: np.ndarray, groups: np.ndarray, parts: int
) -> None:
    for number, label in enumerate(classes):
        different = len(np.unique(groups[labels == number]))
        if different < parts:
            name = f"class {base.classes[label]!r}" if label >= 0 else "the dataset"
            raise UserError(
                f"split: expected at least {parts} different sequences in {name}, one per part, "
                f"received {different}; add sequences, drop the class, or make fewer parts"
            )


def _assign(
    labels: np.ndarray, groups: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The part of each sample: (n,)."""
    _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    room = _targets(np.bincount(labels), shares)  # (classes, parts)
    content = np.zeros((len(sizes), len(room)), np.int64)  # (groups, classes)
    np.add.at(content, (groups, labels), 1)
    part_of = np.full(len(sizes), -1)
    shuffled = rng.permutation(len(sizes))
    large = shuffled[sizes[shuffled] > 1]
    for group in large[np.argsort(-sizes[large], kind="stable")]:
        part_of[group] = _choose(content[group], room, rng)
        room[:, part_of[group]] -= content[group]
    single = shuffled[sizes[shuffled] == 1]
    kinds = content[single].argmax(1)
    for kind in range(len(room)):
        mine = single[kinds == kind]
        counts = _shared_out(len(mine), np.maximum(room[kind], 0))
        part_of[mine] = np.repeat(np.arange(len(shares)), counts)
    _fill_gaps(content, part_of, len(shares))
    return part_of[groups]


def _targets(class_sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How many samples of each class each part should get, at least one: (classes, parts) int64."""
    rows = np.stack([_shared_out(size, shares) for size in class_sizes.tolist()])
    for row in rows:
        while (row == 0).any() and row.max() > 1:
            row[row.argmax()] -= 1
            row[row.argmin()] += 1
    return rows


def _shared_out(total: int, weights: np.ndarray) -> np.ndarray:
    """`total` in whole numbers in proportion to `weights`, by largest remainder."""
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1 / len(weights))
    exact = total * weights
    counts = np.floor(exact + 1e-9).astype(np.int64)
    most = np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]
    counts[most] += 1
    return counts


def _choose(content: np.ndarray, room: np.ndarray, rng: np.random.Generator) -> int:
    """A part with room for the group, drawn in proportion to the room; else the one that overflows least."""
    mine = content > 0
    slack = (room[mine] - content[mine][:, None]).min(0)  # (parts,)
    if (slack < 0).all():
        return int(slack.argmax())
    weights = np.where(slack >= 0, room[mine].sum(0), 0)
    return int(rng.choice(len(slack), p=weights / weights.sum()))


def _fill_gaps(content: np.ndarray, part_of: np.ndarray, parts: int) -> None:
    """Give every part a group of every class, the smallest of the part that has most groups of it."""
    for kind in range(content.shape[1]):
        members = np.flatnonzero(content[:, kind])
        for part in range(parts):
            held = np.bincount(part_of[members], minlength=parts)
            if held[part]:
                continue
            donors = members[part_of[members] == held.argmax()]
            mixed, size = (content[donors] > 0).sum(1), content[donors].sum(1)
            part_of[donors[np.lexsort((size, mixed))[0]]] = part


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
        dataset: A `FastaDataset` or `Subset`, or a list of them (parts of one dataset or of several): then
            only sequences that occur in at least two parts are reported.
        reverse_complement: Whether a sequence and its reverse complement count as equal.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">a\nAC\n>b\nGG\n>c\nGT\n")
        >>> found = duplicates(FastaDataset(path, unlabelled=True))
        >>> found.groups[0].names, found.reverse_complements
        (('a', 'c'), 1)
    """
    parts = [dataset] if isinstance(dataset, (FastaDataset, Subset)) else list(dataset)
    members: dict[bytes, list[tuple[int, int, bool]]] = {}
    resolved = [_resolve(part) for part in parts]
    for part, (base, indices) in enumerate(resolved):
        for place, (forward, key) in enumerate(
            _digests(base, indices, reverse_complement=reverse_complement)
        ):
            members.setdefault(key, []).append((part, place, forward))
    found = []
    for group in members.values():
        if len(group) > 1 and (len(parts) == 1 or len({part for part, _, _ in group}) > 1):
            found.append(_described(resolved, group))
    return Duplicates(sum(len(indices) for _, indices in resolved), len(parts), tuple(found))


def _described(
    resolved: list[tuple[FastaDataset, np.ndarray]], group: list[tuple[int, int, bool]]
) -> DuplicateGroup:
    places = [(resolved[part][0], int(resolved[part][1][place])) for part, place, _ in group]
    return DuplicateGroup(
        parts=tuple(part for part, _, _ in group),
        indices=tuple(place for _, place, _ in group),
        names=tuple(base.name(index) for base, index in places),
        labels=tuple(int(base.labels[index]) for base, index in places),
        reversed=tuple(forward != group[0][2] for _, _, forward in group),
    )


def _is_exact(group: DuplicateGroup, parts: int) -> bool:
    """Whether two records on different sides (any two of one dataset) read the same forward."""
    for strand in (False, True):
        sides = [part for part, other in zip(group.parts, group.reversed, strict=True) if other == strand]
        if len(sides) > 1 and (parts == 1 or len(set(sides)) > 1):
            return True
    return False


def _resolve(dataset: Dataset) -> tuple[FastaDataset, np.ndarray]:
    """The dataset below nested subsets, and which of its samples are meant."""
    if isinstance(dataset, Subset):
        base, indices = _resolve(dataset.dataset)
        return base, indices[np.asarray(dataset.indices, np.int64)]
    if not isinstance(dataset, FastaDataset):
        raise UserError(f"expected a FastaDataset or a Subset of one, received {type(dataset).__name__}")
    return dataset, np.arange(len(dataset))


def _groups(base: FastaDataset, indices: np.ndarray, *, reverse_complement: bool) -> np.ndarray:
    """A number for each sample; equal sequences have the same: (n,)."""
    number: dict[bytes, int] = {}
    digests = _digests(base, indices, reverse_complement=reverse_complement)
    return np.array([number.setdefault(key, len(number)) for _, key in digests], np.int64)


def _digests(
    base: FastaDataset, indices: np.ndarray, *, reverse_complement: bool
) -> Iterator[tuple[bool, bytes]]:
    """A 128-bit digest of each sequence, one for both strands, after whether it is the forward strand's."""
    both = reverse_complement and base.alphabet.stranded
    step = max(1, (1 << 24) // base.width)
    for start in range(0, len(indices), step):
        chosen = indices[start : start + step]
        rows, lengths = base.batch(chosen)[0], base.lengths[torch.from_numpy(chosen)]
        partners = base.alphabet.reverse_complement(rows, lengths) if both else rows
        for row, partner, length in zip(rows.numpy(), partners.numpy(), lengths.tolist(), strict=True):
            forward = blake2b(row[:length], digest_size=16).digest()
            key = min(forward, blake2b(partner[:length], digest_size=16).digest()) if both else forward
            yield key == forward, key
