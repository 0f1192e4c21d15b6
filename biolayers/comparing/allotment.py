"""Groups of samples into parts: shares kept as well as whole groups allow, for each class."""

import numpy as np


def allot(
    labels: np.ndarray, groups: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """The part of each sample (n,), and how many groups were moved so that no part lacks a class.

    Groups are placed first, the largest first, each into a part that has room; single samples fill what is
    left.

    Args:
        labels: (n,) integers from 0 on.
        groups: (n,) integers: samples with the same one go to the same part.
        shares: (parts,) of each part, which sum to 1.
        rng: Decides between what is equally good.

    Example:
        >>> parts, moved = allot(np.zeros(4, int), np.array([7, 7, 8, 9]), np.array([0.5, 0.5]),
        ...                      np.random.default_rng(0))
        >>> bool(parts[0] == parts[1] != parts[2] == parts[3]), moved
        (True, 0)
    """
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
    moved = _fill_gaps(content, part_of, len(shares))
    return part_of[groups], moved


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


def _fill_gaps(content: np.ndarray, part_of: np.ndarray, parts: int) -> int:
    """Give every part a group of every class, the smallest of the part that has most groups of it.

    Returns how many groups that took; none where there are fewer groups of a class than parts.
    """
    moved = 0
    for kind in range(content.shape[1]):
        members = np.flatnonzero(content[:, kind])
        for part in range(parts):
            held = np.bincount(part_of[members], minlength=parts)
            if held[part] or held.max() < 2:
                continue
            donors = members[part_of[members] == held.argmax()]
            mixed, size = (content[donors] > 0).sum(1), content[donors].sum(1)
            part_of[donors[np.lexsort((size, mixed))[0]]] = part
            moved += 1
    return moved
