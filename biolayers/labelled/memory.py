"""Labelled sequences that are in memory already, as a dataset of tokens."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA, Alphabet
from biolayers.errors import FastaError
from biolayers.labelled.base import LabelledRecords, Shape
from biolayers.labelled.targets import Labels, several, single, unlabelled
from shared.threads import parallel

_SHARE = 400_000  # letters that one thread gathers in about 0.2 ms


class SequenceDataset(LabelledRecords):
    """Sequences in memory with a label each: strings, Biopython's records, a column of a data frame.

    They are kept as tokens, one byte a letter. All else is as with `FastaDataset`.

    Args:
        sequences: (n,) strings, bytes, `Seq` or `SeqRecord` objects, in any iterable (a pandas column, too).
        labels: (n,) strings or integers: the class of each; or (n,) lists of strings: any number of classes
            each. By default -1 for all, for prediction.
        targets: Instead of labels: (n,) or (n, targets) numbers to predict, nan where one is missing.
        names: (n,) strings, for messages; by default the records' ids, else sequence 1, sequence 2, ...
        classes: The classes in the order of their numbers; by default those found, sorted.
        pad_to: As of `FastaDataset`, like all that follow.
        window: See `FastaDataset`.
        jitter: See `FastaDataset`.
        reverse_complement: See `FastaDataset`.
        packed: See `FastaDataset`.
        return_lengths: See `FastaDataset`.
        seed: See `FastaDataset`.
        alphabet: How letters become tokens, with its policy.

    Raises:
        FastaError: Numbers of sequences and labels differ, a label is odd, a sequence is empty, or lengths
            differ without `pad_to`.
        UserError: A letter is refused (name, position, letter).

    Example:
        >>> data = SequenceDataset(["ACGT", "TTGN"], ["yes", "no"])
        >>> data.batch([1, 0])
        (tensor([[3, 3, 2, 4],
                [0, 1, 2, 3]], dtype=torch.uint8), tensor([0, 1]))
        >>> SequenceDataset(["AC", "G"], targets=[0.5, 2], packed=True).batch([0, 1])
        (tensor([0, 1, 2], dtype=torch.uint8), tensor([0, 2, 3]), tensor([0.5000, 2.0000]))
    """

    def __init__(
        self,
        sequences: Iterable[Any],
        labels: Any = None,
        *,
        targets: Any = None,
        names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        pad_to: str | int | None = None,
        window: int | None = None,
        jitter: int = 0,
        reverse_complement: float = 0.0,
        packed: bool = False,
        return_lengths: bool = False,
        seed: int = 0,
        alphabet: Alphabet = DNA,
    ):
        shape = Shape(pad_to, window, jitter, reverse_complement, packed, return_lengths, seed)
        self.alphabet = alphabet
        given = list(sequences)
        self.names = _names(given, names)
        rows = [
            alphabet.tokens(_text(each), record=name) for each, name in zip(given, self.names, strict=True)
        ]
        self._length = np.array([len(row) for row in rows], np.int64)
        self._edges = np.concatenate([[0], np.cumsum(self._length)])
        self._values = np.concatenate([np.empty(0, np.uint8), *(row.numpy() for row in rows)])
        self._set_up(shape, self._labelled(labels, targets, classes))

    def _labelled(self, labels: Any, targets: Any, classes: Sequence[str] | None) -> Labels:
        if labels is not None and targets is not None:
            raise FastaError("SequenceDataset: expected labels or targets, received both")
        if targets is not None:
            return _quantities(targets, len(self))
        if labels is None:
            return unlabelled(len(self), classes)
        found = labels.tolist() if hasattr(labels, "tolist") else list(labels)
        if len(found) != len(self):
            raise FastaError(f"SequenceDataset: expected {len(self)} labels, one each, received {len(found)}")
        if any(isinstance(label, (list, tuple, set, frozenset)) for label in found):
            return several([list(map(str, label)) for label in found], classes, where=self.where)
        wrong = next((label for label in found if not isinstance(label, (str, int))), None)
        if wrong is not None:
            raise FastaError(
                "SequenceDataset: expected labels as strings, integers or lists of strings, "
                f"received {wrong!r}; give numbers to predict as targets="
            )
        if classes is None:  # 2 comes before 10
            classes = [
                str(label) for label in sorted(set(found), key=lambda label: (isinstance(label, str), label))
            ]
        return single([str(label) for label in found], classes, where=self.where, source="SequenceDataset")

    def _check_letters(self) -> None:
        """Encoding has checked them."""

    def _read(
        self, chosen: np.ndarray, starts: np.ndarray, ends: np.ndarray, minus: np.ndarray | None, width: int
    ) -> Tensor:
        out = torch.empty((len(chosen), width), dtype=torch.uint8)
        places = np.arange(len(chosen)) * width
        self._gather(chosen, starts, ends, minus, out.view(-1).numpy(), places, np.full(len(chosen), width))
        return out

    def _read_packed(
        self, chosen: np.ndarray, starts: np.ndarray, ends: np.ndarray, minus: np.ndarray | None
    ) -> tuple[Tensor, Tensor]:
        offsets = np.concatenate([[0], np.cumsum(ends - starts)])
        out = torch.empty(int(offsets[-1]), dtype=torch.uint8)
        self._gather(chosen, starts, ends, minus, out.numpy(), offsets[:-1], ends - starts)
        return out, torch.from_numpy(offsets)

    def _gather(
        self,
        chosen: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        minus: np.ndarray | None,
        out: np.ndarray,
        places: np.ndarray,
        rooms: np.ndarray,
    ) -> None:
        from biolayers.kernels.numba.gather import gather

        base = self._edges[chosen]
        minus = np.zeros(len(chosen), bool) if minus is None else minus
        grain = max(1, _SHARE * len(chosen) // max(1, len(out)))
        parallel(
            gather, len(chosen), self._values, base + starts, base + ends, minus, self._partner, out, places,
            rooms, grain=grain,
        )  # fmt: skip

    @cached_property
    def _partner(self) -> np.ndarray:
        """The complement of each token: (256,) uint8; itself where there are no strands."""
        return self.alphabet.complement_table if self.alphabet.stranded else np.arange(256, dtype=np.uint8)

    def name(self, index: int) -> str:
        """The name of one sequence."""
        return self.names[index]

    def where(self, index: int) -> str:
        """The name of one sequence, for messages."""
        return self.names[index]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("tokens", "_partner")}

    def __repr__(self) -> str:
        return f"SequenceDataset({self._described()})"


def _text(sequence: Any) -> Any:
    """The letters of a string, of bytes, of a `Seq` or of a `SeqRecord`."""
    sequence = getattr(sequence, "seq", sequence)
    return sequence if isinstance(sequence, (str, bytes, np.ndarray)) else str(sequence)


def _names(given: list[Any], names: Sequence[str] | None) -> list[str]:
    if names is None:
        return [str(getattr(each, "id", f"sequence {i}")) for i, each in enumerate(given, 1)]
    if len(names) != len(given):
        raise FastaError(f"SequenceDataset: expected {len(given)} names, one each, received {len(names)}")
    return [str(name) for name in names]


def _quantities(targets: Any, n: int) -> Labels:
    values = np.asarray(targets, np.float32)
    if values.ndim not in (1, 2) or len(values) != n or np.isinf(values).any():
        raise FastaError(
            f"SequenceDataset: expected targets ({n},) or ({n}, targets), finite or nan, received shape "
            f"{values.shape}" + (" with infinite numbers" if np.isinf(values).any() else "")
        )
    count = 1 if values.ndim == 1 else values.shape[1]
    names = ["target"] if count == 1 else [f"target {j}" for j in range(1, count + 1)]
    return Labels("regression", torch.from_numpy(values.copy()), names)
