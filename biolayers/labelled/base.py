"""What datasets of labelled records share: windows, padding, packing, augmentation, labels."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import Alphabet
from biolayers.batching.batches import BatchDataset
from biolayers.batching.randomness import coin, integers
from biolayers.errors import FastaError
from biolayers.labelled.targets import Labels


@dataclass(frozen=True)
class Shape:
    """How records become rows of tokens; every field is an option of the datasets, described there."""

    pad_to: str | int | None = None
    window: int | None = None
    jitter: int = 0
    reverse_complement: float = 0.0
    packed: bool = False
    return_lengths: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        pad_to, window = self.pad_to, self.window
        if not (pad_to in (None, "longest", "batch") or (type(pad_to) is int and pad_to > 0)):
            raise FastaError(
                f"dataset: expected pad_to None, 'longest', 'batch' or a length, received {pad_to!r}"
            )
        if window is not None and window < 1:
            raise FastaError(f"dataset: expected a window from 1 letter on, received {window}")
        if self.jitter < 0 or (self.jitter and window is None):
            raise FastaError(
                "dataset: expected jitter from 0 on, and a window that it moves, received "
                f"jitter={self.jitter} and window={window}"
            )
        if not 0 <= self.reverse_complement <= 1:
            raise FastaError(
                "dataset: expected reverse_complement as a probability from 0 to 1, "
                f"received {self.reverse_complement}"
            )
        if self.packed and (pad_to is not None or self.return_lengths):
            raise FastaError(
                "dataset: expected packed without pad_to and return_lengths, as packed batches have no "
                "padding and their offsets give the lengths"
            )


class LabelledRecords(BatchDataset, ABC):
    """Records with labels; a subclass says how their letters are read. See `FastaDataset`."""

    alphabet: Alphabet
    shape: Shape
    width: int  # the length of a row, or of the longest row where they differ from batch to batch
    classes: list[str]
    labels: Tensor
    kind: str
    _length: np.ndarray  # (n,) int64: the letters of each record

    # -- what a subclass defines

    @abstractmethod
    def _read(
        self, chosen: np.ndarray, starts: np.ndarray, ends: np.ndarray, minus: np.ndarray | None, width: int
    ) -> Tensor:
        """Windows of records, `PAD` after their ends: (b, width) uint8."""

    @abstractmethod
    def _read_packed(
        self, chosen: np.ndarray, starts: np.ndarray, ends: np.ndarray, minus: np.ndarray | None
    ) -> tuple[Tensor, Tensor]:
        """Windows of records one after the other: (letters,) uint8, and offsets (b + 1,) int64."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of one record."""

    @abstractmethod
    def where(self, index: int) -> str:
        """Where one record is, for messages."""

    # -- making

    def _set_up(self, shape: Shape, labels: Labels) -> None:
        if shape.reverse_complement and not self.alphabet.stranded:
            raise FastaError(
                f"dataset: expected reverse_complement=0, as {self.alphabet} has no complement, "
                f"received {shape.reverse_complement}"
            )
        self.shape, self.seed, self.packed = shape, shape.seed, shape.packed
        self.kind, self.labels, self.classes = labels.kind, labels.values, labels.classes
        self.width = self._common_width()
        self._check_letters()

    def _common_width(self) -> int:
        pad_to, packed = self.shape.pad_to, self.shape.packed
        lengths = self._window_lengths(self._length)
        if not len(lengths):
            raise FastaError("dataset: expected at least one record, received none")
        if (lengths == 0).any():
            raise FastaError(
                f"{self.where(int((lengths == 0).argmax()))}: expected letters, received no sequence"
            )
        if packed or pad_to in ("longest", "batch"):
            return int(lengths.max())
        if pad_to is None:
            odd, expected = lengths != lengths[0], f"{lengths[0]} letters as in record {self.name(0)!r}"
        else:
            odd, expected = lengths > pad_to, f"at most {pad_to} letters"
        if odd.any():
            i = int(odd.argmax())
            raise FastaError(
                f"{self.where(i)}: expected {expected}, received {lengths[i]}; "
                f"choose pad_to='longest' (up to {lengths.max()} here), or make the lengths equal"
            )
        return int(lengths[0] if pad_to is None else pad_to)

    def _window_lengths(self, lengths: np.ndarray) -> np.ndarray:
        return lengths if self.shape.window is None else np.minimum(lengths, self.shape.window)

    def _check_letters(self) -> None:
        """Read every letter once, so that reading cannot fail later."""
        step = max(1, (1 << 25) // max(1, int(self._length.max())))
        for start in range(0, len(self), step):
            chosen = np.arange(start, min(start + step, len(self)))
            lengths = self._length[chosen]
            self._read_packed(chosen, np.zeros_like(lengths), lengths, None)

    # -- samples

    def __len__(self) -> int:
        """How many records."""
        return len(self._length)

    def batch(self, indices: Any, *, epoch: int | None = None) -> tuple[Tensor, ...]:
        """The tokens of records by number, and their labels.

        Args:
            indices: (b,) integers.
            epoch: Windows move and strands change as drawn for this epoch; None reads every record as it is.

        Returns:
            Tokens (b, length) uint8 and labels (b, ...); between them the lengths (b,) int64 if
            `return_lengths`. Of a packed dataset: tokens (letters,) uint8, offsets (b + 1,) int64 and labels.
        """
        chosen = np.asarray(indices, np.int64)
        return *self.read(chosen, epoch=epoch), self.labels[torch.from_numpy(chosen)]

    def read(
        self, chosen: np.ndarray, *, epoch: int | None, draws: np.ndarray | None = None
    ) -> tuple[Tensor, ...]:
        """A batch without its labels; `draws` are the numbers that randomness goes by, else the records'."""
        starts, ends, minus = self._windows(chosen, epoch, chosen if draws is None else draws)
        if self.packed:
            return self._read_packed(chosen, starts, ends, minus)
        lengths = ends - starts
        width = self.width
        if self.shape.pad_to == "batch":
            width = int(lengths.max()) if len(lengths) else 0
        tokens = self._read(chosen, starts, ends, minus, width)
        return (tokens, torch.from_numpy(lengths)) if self.shape.return_lengths else (tokens,)

    def _windows(
        self, chosen: np.ndarray, epoch: int | None, draws: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Start and end of each record's window, and which are read from the other strand."""
        shape = self.shape
        full = self._length[chosen]
        kept = self._window_lengths(full)
        starts = (full - kept) // 2
        if epoch is not None and shape.jitter:
            least = np.maximum(-shape.jitter, -starts)  # windows stay within their records
            most = np.minimum(shape.jitter, full - kept - starts)
            starts = starts + integers(self.seed, epoch, draws, "jitter", least, most + 1)
        minus = None
        if epoch is not None and shape.reverse_complement:
            minus = coin(self.seed, epoch, draws, "strand", shape.reverse_complement)
        return starts, starts + kept, minus

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, ...]]:
        """Many samples as they are, with one read; this is what a plain DataLoader calls."""
        *parts, labels = self.batch(indices)
        if self.packed:
            tokens, offsets = parts
            parts = [torch.tensor_split(tokens, offsets[1:-1])]
        values = labels.tolist() if labels.dtype == torch.int64 else labels.unbind(0)
        return list(
            zip(*(part if isinstance(part, tuple) else part.unbind(0) for part in parts), values, strict=True)
        )

    # -- the whole

    def rows(self, indices: Any) -> Tensor:
        """The tokens of records as they are: (b, width) uint8, `PAD` after their ends."""
        chosen = np.asarray(indices, np.int64)
        starts, ends, _ = self._windows(chosen, None, chosen)
        return self._read(chosen, starts, ends, None, self.width)

    @cached_property
    def tokens(self) -> Tensor:
        """All tokens: (n, width) uint8, read on first use and then kept in this process."""
        return self.rows(np.arange(len(self)))

    @property
    def lengths(self) -> Tensor:
        """The letters of each sample, padding apart: (n,) int64."""
        return torch.from_numpy(self._window_lengths(self._length).copy())

    @property
    def strata(self) -> Tensor:
        """The number of each record's class, for splits that hold classes together: (n,) int64.

        Records with the same several classes count as a class; those with quantities or without labels are
        all -1.
        """
        if self.kind == "class":
            return self.labels
        if self.kind == "multilabel":
            return torch.unique(self.labels, dim=0, return_inverse=True)[1]
        return torch.full((len(self),), -1)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("tokens", "names")}

    def _described(self) -> str:
        """The records and labels in words."""
        what = {
            "class": f"classes {', '.join(self.classes)}",
            "multilabel": f"any of the classes {', '.join(self.classes)}",
            "regression": f"targets {', '.join(self.classes)}",
            "unlabelled": "unlabelled",
        }[self.kind]
        if self.kind == "unlabelled" and self.classes:
            what = f"classes {', '.join(self.classes)}"
        upto = "up to " if self.packed or self.shape.pad_to == "batch" else ""
        return f"{len(self):,} sequences of {upto}{self.width:,}, {what}, {self.alphabet}"
