"""What all datasets here have in common: whole batches at once, and randomness that knows its epoch.

A dataset offers

- `len(dataset)`;
- `dataset.batch(indices, epoch=None)`: a tuple (or dict) of tensors for the whole batch, made in one kernel
  call: tokens uint8 `(b, l)` first, labels or targets last. With `epoch` an integer from 0 on, samples are
  augmented as the dataset was told to; everything random about sample i is drawn from the dataset's `seed`,
  the epoch and i alone (`biolayers.batching.randomness`). Without an epoch every sample comes as it is: that
  is what validation, prediction and `dataset[i]` get;
- `dataset[Batch(indices, epoch)]`: the same, for a `DataLoader` whose sampler gives whole batches;
- `dataset[i]`: one sample, as it is.

`biolayers.loader` makes the `DataLoader`; `biolayers.BatchSampler` decides which samples make up a batch. A
new dataset derives from `BatchDataset` and defines `__len__` and `batch`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, Subset

from shared.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a sampler asks a dataset for: the samples of a batch, and the epoch of their randomness."""

    indices: np.ndarray  # (b,) int64
    epoch: int | None = None  # None: samples as they are, without augmentation

    def __len__(self) -> int:
        """How many samples."""
        return len(self.indices)


class BatchDataset(Dataset[Any]):
    """A map-style dataset that is read a whole batch at a time; see the module's docstring.

    Example:
        >>> import torch
        >>> class Squares(BatchDataset):
        ...     def __len__(self):
        ...         return 5
        ...     def batch(self, indices, *, epoch=None):
        ...         numbers = torch.as_tensor(indices)
        ...         return numbers, numbers**2
        >>> Squares()[3], Squares()[Batch(np.array([1, 2]))]
        ((tensor(3), tensor(9)), (tensor([1, 2]), tensor([1, 4])))
    """

    def __len__(self) -> int:
        """How many samples."""
        raise TypeError(f"{type(self).__name__}: expected a dataset that defines __len__, received none")

    def batch(self, indices: Any, *, epoch: int | None = None) -> Any:
        """The tensors of a batch.

        Args:
            indices: (b,) integers from 0 to `len(self)` - 1.
            epoch: What the samples' randomness is drawn for; None gives them as they are.
        """
        raise TypeError(f"{type(self).__name__}: expected a dataset that defines batch(), received none")

    def __getitem__(self, index: int | Batch) -> Any:
        """One sample as it is, or the whole of a `Batch`."""
        if isinstance(index, Batch):
            return self.batch(index.indices, epoch=index.epoch)
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Many samples as they are, with one read; this is what a plain DataLoader calls."""
        together = self.batch(indices)
        if isinstance(together, dict):
            return [{name: part[i] for name, part in together.items()} for i in range(len(indices))]
        return [tuple(part[i] for part in together) for i in range(len(indices))]


class Part(BatchDataset):
    """Some samples of a dataset, such as one side of a split, read a whole batch at a time.

    A sample's randomness is that of its number in the whole dataset, whichever part it is in.

    Args:
        dataset: A `BatchDataset`, or a `torch.utils.data.Subset` of one (of one, and so on).
        indices: (n,) integers: which of its samples; by default all.

    Example:
        >>> from biolayers import SequenceDataset
        >>> Part(SequenceDataset(["AC", "GG", "TT"], ["x", "y", "y"]), [2, 0]).batch([0, 1])
        (tensor([[3, 3],
                [0, 1]], dtype=torch.uint8), tensor([1, 0]))
    """

    def __init__(self, dataset: Dataset[Any], indices: Any = None) -> None:
        chosen = None if indices is None else np.asarray(indices, np.int64)
        while isinstance(dataset, (Subset, Part)):
            own = np.asarray(dataset.indices, np.int64)
            chosen = own if chosen is None else own[chosen]
            dataset = dataset.dataset
        if not isinstance(dataset, BatchDataset):
            raise UserError(
                f"expected a dataset of biolayers or a Subset of one, received {type(dataset).__name__}; "
                "derive from biolayers.BatchDataset to give a dataset of your own whole batches"
            )
        self.dataset = dataset
        self.indices = np.arange(len(dataset)) if chosen is None else chosen

    def __len__(self) -> int:
        """How many samples."""
        return len(self.indices)

    def batch(self, indices: Any, *, epoch: int | None = None) -> Any:
        """The tensors of a batch; see `BatchDataset.batch`."""
        return self.dataset.batch(self.indices[np.asarray(indices, np.int64)], epoch=epoch)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Many samples as they are, with one read."""
        return self.dataset.__getitems__(self.indices[np.asarray(indices, np.int64)].tolist())

    @property
    def labels(self) -> Tensor:
        """The labels of these samples, where the dataset has labels: (n, ...)."""
        return self.dataset.labels[self.indices]  # type: ignore[attr-defined]

    @property
    def lengths(self) -> Tensor:
        """The letters of each of these samples, where the dataset knows them: (n,) int64."""
        return self.dataset.lengths[self.indices]  # type: ignore[attr-defined]
