"""From a dataset to batches in a loop: worker processes, an order for each epoch, a state to resume from."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, IterableDataset

from biolayers.batching.batches import Part
from biolayers.batching.position import Position
from biolayers.batching.samplers import BatchSampler
from biolayers.batching.stream import FastaStream
from shared.errors import UserError


class Loader(DataLoader[Any]):
    """A `DataLoader` of whole batches that knows where its loop stands; `loader` makes it."""

    position: Position

    def __init__(self, dataset: Dataset[Any], sampler: BatchSampler | None, **options: Any) -> None:
        super().__init__(dataset, sampler=sampler, batch_size=None, collate_fn=_as_it_is, **options)
        source = dataset if isinstance(dataset, FastaStream) else sampler
        self.position = source.position  # type: ignore[union-attr]

    def __len__(self) -> int:
        """How many batches there are in the whole epoch, also where the loop began in its middle."""
        count = self._count()
        if count is None:
            raise TypeError("the length of a FastaStream is not known; pass records= if you know it")
        return count

    def _count(self) -> int | None:
        return self.dataset.batches() if isinstance(self.dataset, FastaStream) else super().__len__()

    def __iter__(self) -> Iterator[Any]:
        """The batches that this epoch still has; each counts as seen when the loop receives it.

        Nothing happens before the first batch is asked for: trainers set the epoch after `iter()`.
        """
        epoch, batch = self.position.begin(self._count())
        if isinstance(self.dataset, FastaStream):
            self.dataset.begin(epoch, batch)
        for batch in super().__iter__():
            self.position.seen += 1
            yield batch
        self.position.set_epoch(self.position.epoch + 1)

    @property
    def epoch(self) -> int:
        """The epoch that is read, from 0."""
        return self.position.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; one that is begun is continued. Without it, one epoch follows the other."""
        self.position.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop stands, in plain numbers: what workers have read ahead does not count."""
        return self.position.state_dict(self._count())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where another loader of the same data and settings stood.

        Raises:
            UserError: Data or settings differ, so that the batches would be others.
        """
        self.position.load_state_dict(state_dict)


def loader(
    dataset: Dataset[Any],
    *,
    batch_size: int | None = None,
    letters: int | None = None,
    shuffle: bool = False,
    augment: bool | None = None,
    bucket: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    workers: int = 0,
    pin_memory: bool = False,
    persistent: bool | None = None,
    prefetch: int | None = None,
    context: str | None = None,
    rank: int | None = None,
    world: int | None = None,
) -> Loader:
    """Make the `DataLoader` that reads a dataset in whole batches.

    Every epoch is the same, byte for byte, for any number of workers, forked or spawned; each has an order
    and augmentations of its own, given by `seed`, epoch and sample. `state_dict()` says which batches the
    loop has received, and `load_state_dict()` continues with the next one, in another process, too: every
    sample once. Lightning saves and loads this state with its checkpoints.

    With `torch.distributed`, each process reads its share: every sample is in exactly one, and all have the
    same number of batches (what remains at the end is shared out evenly, so last batches may be smaller, or
    one sample larger). Nothing is repeated to fill up; a process more than there are samples is an error.

    Args:
        dataset: A dataset of this package, a `Subset` of one (from `split`), any `BatchDataset`, or a
            `FastaStream`, which knows its own batches, order and seed.
        batch_size: Samples in a batch (of each process).
        letters: Instead of `batch_size`, how many letters a batch may hold, padding included unless the
            dataset packs its batches. The number of batches then differs between epochs; for Lightning, set
            its `reload_dataloaders_every_n_epochs=1`.
        shuffle: Whether each epoch has an order of its own.
        augment: Whether samples are augmented as the dataset was told to; by default if `shuffle`, so that
            validation sees every sample as it is.
        bucket: Whether samples of similar length go together, so that there is less padding.
        seed: Of the order. Augmentations have the dataset's own seed.
        drop_last: Whether to leave out samples at the end that do not fill a batch in every process.
        workers: Processes that read ahead; 0 reads in this one, which for tokens is often fast enough.
        pin_memory: Whether batches go to page-locked memory, for faster copies to a GPU.
        persistent: Whether workers live on from epoch to epoch; by default they do.
        prefetch: Batches that each worker reads ahead; PyTorch's default is 2.
        context: How workers start: "fork", "spawn" or "forkserver"; by default as Python does.
        rank: Number of this process, and `world` how many there are; by default by `torch.distributed`.
        world: See `rank`.

    Raises:
        UserError: The arguments contradict each other or do not fit the dataset.

    Example:
        >>> from biolayers import SequenceDataset
        >>> data = SequenceDataset(["AC", "GG", "TT"], ["x", "y", "y"])
        >>> batches = loader(data, batch_size=2, shuffle=True, seed=1)
        >>> for epoch in range(2):
        ...     for tokens, labels in batches:
        ...         print(batches.epoch, tokens.tolist(), labels.tolist())
        0 [[3, 3], [0, 1]] [1, 0]
        0 [[2, 2]] [1]
        1 [[3, 3], [2, 2]] [1, 1]
        1 [[0, 1]] [0]
        >>> batches.state_dict()["epoch"], batches.state_dict()["batches"]
        (2, 0)
    """
    options: dict[str, Any] = {
        "num_workers": workers,
        "pin_memory": pin_memory,
        "persistent_workers": workers > 0 if persistent is None else persistent,
        "prefetch_factor": prefetch,
        "multiprocessing_context": context,
    }
    if isinstance(dataset, IterableDataset):
        _only_for_maps(dataset, batch_size=batch_size, letters=letters, shuffle=shuffle, augment=augment,
                       bucket=bucket, seed=seed, drop_last=drop_last, rank=rank, world=world)  # fmt: skip
        return Loader(dataset, None, **options)
    part = Part(dataset)
    sampler = BatchSampler(
        len(part),
        batch_size,
        letters=letters,
        lengths=_lengths(part) if bucket or letters is not None else None,
        bucket=bucket,
        packed=getattr(part.dataset, "packed", False),
        shuffle=shuffle,
        seed=seed,
        augment=shuffle if augment is None else augment,
        drop_last=drop_last,
        rank=rank,
        world=world,
    )
    return Loader(part, sampler, **options)


def _as_it_is(batch: Any) -> Any:
    return batch


def _lengths(part: Part) -> np.ndarray:
    if not hasattr(part.dataset, "lengths"):
        raise UserError(
            "loader: expected a dataset with lengths for bucket or letters, "
            f"received {type(part.dataset).__name__}"
        )
    return part.lengths.numpy()


def _only_for_maps(dataset: Any, **given: Any) -> None:
    if not isinstance(dataset, FastaStream):
        raise UserError(
            f"loader: expected a dataset of whole batches or a FastaStream, received {type(dataset).__name__}"
        )
    chosen = [name for name, value in given.items() if value]
    if chosen:
        raise UserError(
            f"loader: expected batch_size, seed and the like to be given to FastaStream itself, "
            f"received {', '.join(chosen)}"
        )
