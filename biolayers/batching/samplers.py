"""Which samples make up each batch of an epoch: shuffled, divided among processes, grouped by length.

The order of an epoch is cut into pools of consecutive places, each pool into batches, so nothing of the size
of the dataset is made: an epoch of a billion windows starts at once, and so does a resume in its middle.
Every sample occurs exactly once in an epoch, and all processes ("ranks") get the same number of batches: what
remains at the end is shared out evenly, or left out with `drop_last`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import distributed
from torch.utils.data import DistributedSampler

from biolayers.batching.batches import Batch
from biolayers.batching.position import Position
from biolayers.batching.randomness import shuffled
from shared.errors import UserError

_POOL = 8192  # samples in a pool, about: enough to hide what a pool costs
_POOL_BATCHES = 50  # batches in a pool at least, so that lengths are alike within a batch


def ranks() -> tuple[int, int]:
    """The number of this process and how many there are, by `torch.distributed`; (0, 1) without it."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class BatchSampler(DistributedSampler):
    """Gives a `Batch` at a time; where it stands is kept in `position`.

    It is a `DistributedSampler` so that trainers see that it does the sharding itself.

    Args:
        n: How many samples there are.
        batch_size: Samples in a batch of each process.
        letters: Instead of `batch_size`: how many letters a batch may hold.
        lengths: (n,) integers: the letters of each sample, where batches depend on them.
        bucket: Whether samples of similar length go together (within pools of a few thousand samples).
        packed: Whether only real letters count for `letters`; else padding to the longest counts, too.
        shuffle: Whether each epoch has an order of its own.
        seed: Of the order.
        augment: Whether batches carry their epoch, so that the dataset augments them.
        drop_last: Whether to leave out the samples at the end that do not fill a batch in every process.
        rank: Number of this process; by default what `torch.distributed` says when an epoch begins.
        world: How many processes there are.

    Raises:
        UserError: The arguments contradict each other, a sample does not fit into a batch, or there are fewer
            samples than processes.

    Example:
        >>> [batch.indices.tolist() for batch in BatchSampler(5, 2)]
        [[0, 1], [2, 3], [4]]
        >>> [[batch.indices.tolist() for batch in BatchSampler(5, 2, rank=rank, world=2)] for rank in (0, 1)]
        [[[0, 1]], [[2, 3, 4]]]
        >>> sampler = BatchSampler(4, letters=8, lengths=np.array([5, 1, 4, 2]), bucket=True)
        >>> [batch.indices.tolist() for batch in sampler]
        [[1, 3], [2], [0]]
    """

    def __init__(
        self,
        n: int,
        batch_size: int | None = None,
        *,
        letters: int | None = None,
        lengths: np.ndarray | None = None,
        bucket: bool = False,
        packed: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        augment: bool = False,
        drop_last: bool = False,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        _check_size(batch_size, letters, drop_last)
        if (bucket or letters is not None) and lengths is None:
            raise UserError("BatchSampler: expected lengths, as batches depend on them, received none")
        if (rank is None) != (world is None):
            raise UserError(f"BatchSampler: expected rank and world together, received {rank} and {world}")
        if letters is not None and n and lengths.max() > letters:  # type: ignore[union-attr]
            i = int(np.argmax(lengths))  # type: ignore[arg-type]
            raise UserError(
                f"letters: expected at least the {lengths[i]:,} letters of sample {i}, received {letters:,}"  # type: ignore[index]
            )
        self.n, self.batch_size, self.letters = n, batch_size, letters
        self.lengths = lengths if bucket or letters is not None else None
        self.bucket, self.packed, self.shuffle, self.augment = bucket, packed, shuffle, augment
        self.seed, self.drop_last = seed, drop_last
        self._given = None if rank is None else (rank, world)
        if drop_last and n < batch_size * self._place()[1]:  # type: ignore[operator]
            raise UserError(
                f"loader: expected at least {batch_size * self._place()[1]} samples, a full batch in every "  # type: ignore[operator]
                f"process, received {n}; leave out drop_last, or choose a smaller batch_size"
            )
        self._counted: tuple[tuple[int, int], int] | None = None  # the length of an epoch, where it varies
        self.position = Position(
            {
                "samples": n,
                "batch_size": batch_size,
                "letters": letters,
                "bucket": bucket,
                "shuffle": shuffle,
                "seed": seed,
                "drop_last": drop_last,
                "processes": self._place()[1],
            }
        )

    def _place(self) -> tuple[int, int]:
        rank, world = self._given or ranks()
        if not 0 <= rank < world:  # type: ignore[operator]
            raise UserError(f"BatchSampler: expected a rank from 0 to {world - 1}, received {rank}")  # type: ignore[operator]
        if 0 < self.n < world:  # type: ignore[operator]
            raise UserError(
                f"loader: expected at least one sample for each of {world} processes, received {self.n}"
            )
        return rank, world  # type: ignore[return-value]

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; one that is begun is continued."""
        self.position.set_epoch(epoch)

    def __len__(self) -> int:
        """How many batches this process gets in the whole epoch."""
        _, world = self._place()
        if not self.n:
            return 0
        if self.letters is None:
            pools = self._pools(world)
            full = (pools - 1) * (self._pool(world) // (world * self.batch_size))  # type: ignore[operator]
            return full + self._steps(pools - 1, self.position.epoch, world)
        key = (self.position.epoch, world)
        if self._counted is None or self._counted[0] != key:
            steps = (self._steps(pool, key[0], world) for pool in range(self._pools(world)))
            self._counted = key, sum(steps)
        return self._counted[1]

    def __iter__(self) -> Iterator[Batch]:
        """The batches of this process, from where `position` says."""
        rank, world = self._place()
        self.position.settings["processes"] = world
        epoch, ahead = self.position.begin(len(self))
        tag = epoch if self.augment else None
        for pool in range(self._pools(world) if self.n else 0):
            if ahead and (steps := self._steps(pool, epoch, world)) <= ahead:
                ahead -= steps
                continue
            indices, edges, order = self._cut(pool, epoch, world)
            for step in order[ahead:].tolist():
                j = step * world + rank
                yield Batch(indices[edges[j] : edges[j + 1]], tag)
            ahead = 0

    # -- pools: consecutive places of the order

    def _pool(self, world: int) -> int:
        """How many places a pool has; the last one may have fewer, or up to `world` - 1 more."""
        if self.batch_size is None:
            return max(_POOL, _POOL_BATCHES * world)
        step = self.batch_size * world
        return step * max(_POOL_BATCHES if self.bucket else 1, _POOL // step)

    def _pools(self, world: int) -> int:
        return max(1, (self.n - world) // self._pool(world) + 1)

    def _places(self, pool: int, world: int) -> tuple[int, int]:
        size = self._pool(world)
        return pool * size, self.n if pool == self._pools(world) - 1 else (pool + 1) * size

    def _steps(self, pool: int, epoch: int, world: int) -> int:
        """How many batches each process gets of a pool."""
        if self.letters is not None:
            return len(self._cut(pool, epoch, world)[2])
        first, last = self._places(pool, world)
        return (len(self._even_edges(last - first, world)) - 1) // world

    def _cut(self, pool: int, epoch: int, world: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The samples of a pool, where its batches begin and end, and the order of its steps.

        Batch j is for process j % world in step j // world.
        """
        places = np.arange(*self._places(pool, world))
        indices = shuffled(self.seed, epoch, places, self.n) if self.shuffle else places
        lengths = self.lengths[indices] if self.lengths is not None else None
        if self.bucket:
            ascending = np.argsort(lengths, kind="stable")
            indices, lengths = indices[ascending], lengths[ascending]  # type: ignore[index]
        if self.letters is None:
            edges = self._even_edges(len(indices), world)
        else:
            edges = _divisible(_budget_edges(lengths, self.letters, packed=self.packed), world)
        order = np.arange((len(edges) - 1) // world)
        if self.bucket and self.shuffle:
            order = shuffled(self.seed, epoch, order, len(order), f"steps of pool {pool}")
        return indices, edges, order

    def _even_edges(self, m: int, world: int) -> np.ndarray:
        """Where the batches of m samples begin and end: (steps * world + 1,)."""
        step = self.batch_size * world  # type: ignore[operator]
        starts = np.arange(0, m - step + 1, step) if m >= step else np.arange(0)  # of the full steps
        rest = m - step * len(starts)
        if self.drop_last:
            stops = starts + step
        elif rest >= world:
            starts = np.append(starts, m - rest)
            stops = np.append(starts[1:], m)
        else:  # fewer than one for each process: the last full step takes them
            stops = np.append(starts[1:], m)
        shares = starts[:, None] + (stops - starts)[:, None] * np.arange(world) // world  # (steps, world)
        return np.append(shares.ravel(), stops[-1:] if len(stops) else 0)


def _check_size(batch_size: int | None, letters: int | None, drop_last: bool) -> None:
    given = {"batch_size": batch_size, "letters": letters}
    if (batch_size is None) == (letters is None):
        raise UserError(
            f"loader: expected either batch_size or letters, received {batch_size} and {letters}; batch_size "
            "counts samples, letters bounds the size of a batch"
        )
    for name, value in given.items():
        if value is not None and value < 1:
            raise UserError(f"loader: expected {name} from 1 on, received {value}")
    if letters is not None and drop_last:
        raise UserError("loader: expected drop_last only with batch_size, received it with letters")


def _budget_edges(lengths: Any, letters: int, *, packed: bool) -> np.ndarray:
    """Cut samples, in their order, into batches as large as `letters` admits."""
    edges = [0]
    ends = np.cumsum(lengths)
    while (start := edges[-1]) < len(lengths):
        if packed:
            before = ends[start] - lengths[start]
            stop = int(np.searchsorted(ends, before + letters, side="right"))
        else:
            most = max(1, letters // max(1, int(lengths[start])))
            longest = np.maximum.accumulate(lengths[start : start + most])
            stop = start + int((longest * np.arange(1, len(longest) + 1) <= letters).sum())
        edges.append(stop)
    return np.array(edges)


def _divisible(edges: np.ndarray, world: int) -> np.ndarray:
    """Halve the largest batches until there are as many for each process."""
    cuts = edges.tolist()
    while (len(cuts) - 1) % world:
        j = int(np.argmax(np.diff(cuts)))
        cuts.insert(j + 1, (cuts[j] + cuts[j + 1]) // 2)
    return np.array(cuts)
