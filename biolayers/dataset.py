"""Labelled sequences: one or several FASTA files as a map-style dataset of tokens."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from biolayers.alphabet import DNA, Alphabet
from biolayers.errors import FastaError
from biolayers.fasta import Fasta
from biolayers.labels import from_headers, from_mapping, from_table
from biolayers.policy import LetterCounts

Path = str | os.PathLike[str]

UNLABELLED = -1


class FastaDataset(Dataset[tuple[Tensor, int]]):
    r"""Sequences of FASTA files with a class each, read from the mapped files when asked for.

    Labels come from exactly one source: a pattern for the headers, a table or mapping from name to label, or
    one file per class. Every letter is checked once, when the dataset is made, so reading cannot fail later.
    The dataset may be forked, pickled and read from several workers and threads.

    Args:
        path: A FASTA file, or a mapping from class to file such as `{"enhancer": "a.fa", "other": "b.fa"}`.
        label_pattern: A regular expression searched for in each header; its group `label`, else its first
            group, is the label: `class=(\w+)`.
        labels: A CSV or TSV file with a column of names and one of labels, or a mapping from name to label.
        unlabelled: Whether to do without labels (for prediction): each label is then -1.
        name_column: The table's column of names, when its header calls it neither name nor id.
        label_column: The table's column of labels, when its header calls it neither label nor class.
        classes: The classes in the order of their numbers; by default those found, sorted.
        pad_to: What to do with different lengths: None is an error, "longest" or a number of letters fills
            shorter sequences with `PAD` at the end.
        alphabet: How letters become tokens, with its policy.

    Raises:
        FastaError: A file is not as it must be, a label is missing or odd, lengths differ without `pad_to`, a
            letter is refused (file, line, record, position, letter), or only one class is found while
            `classes` does not say that there are more.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">a class=yes\nACGT\n>b class=no\nTTGN\n")
        >>> data = FastaDataset(path, label_pattern=r"class=(\w+)")
        >>> data.classes, data[0]
        (['no', 'yes'], (tensor([0, 1, 2, 3], dtype=torch.uint8), 1))
        >>> data.batch([1, 0])
        (tensor([[3, 3, 2, 4],
                [0, 1, 2, 3]], dtype=torch.uint8), tensor([0, 1]))
    """

    def __init__(
        self,
        path: Path | Mapping[str, Path],
        *,
        label_pattern: str | None = None,
        labels: Path | Mapping[str, str] | None = None,
        unlabelled: bool = False,
        name_column: str | None = None,
        label_column: str | None = None,
        classes: Sequence[str] | None = None,
        pad_to: str | int | None = None,
        alphabet: Alphabet = DNA,
    ):
        per_class = isinstance(path, Mapping)
        _one_source(per_class, label_pattern, labels, unlabelled)
        if (name_column or label_column) and (labels is None or isinstance(labels, Mapping)):
            raise FastaError(
                "FastaDataset: name_column and label_column belong to a table of labels; give labels="
            )
        self.alphabet = alphabet
        paths = list(path.values()) if isinstance(path, Mapping) else [path]
        if not paths:
            raise FastaError("FastaDataset: expected at least one file, received an empty mapping")
        self.files = [Fasta(each, alphabet=alphabet) for each in paths]
        sizes = [len(fasta) for fasta in self.files]
        self._file = np.repeat(np.arange(len(sizes)), sizes)  # (n,): which file
        self._record = np.concatenate([np.arange(size) for size in sizes])  # (n,): which record of it
        self._length = np.concatenate([fasta.lengths for fasta in self.files])
        if isinstance(path, Mapping):
            found = [str(label) for label, size in zip(path, sizes, strict=True) for _ in range(size)]
        elif label_pattern is not None:
            found = from_headers(self.files[0], label_pattern)
        elif isinstance(labels, Mapping):
            found = from_mapping(self.files[0], labels)
        elif labels is not None:
            found = from_table(self.files[0], labels, name_column=name_column, label_column=label_column)
        else:
            found = None
        self.classes, self.labels = self._numbered(found, classes)
        self.width = self._common_width(pad_to)
        self._check_letters()

    def _numbered(self, found: list[str] | None, classes: Sequence[str] | None) -> tuple[list[str], Tensor]:
        """The classes, and the number of each label: (n,) int64."""
        if found is None:
            return list(classes or []), torch.full((len(self._file),), UNLABELLED)
        order = sorted(set(found)) if classes is None else list(classes)
        number = {label: i for i, label in enumerate(order)}
        if len(number) < len(order):
            raise FastaError(f"FastaDataset: expected each class once, received classes {order}")
        for i, label in enumerate(found):
            if label not in number:
                raise FastaError(f"{self.where(i)}: expected a label among {order}, received {label!r}")
        if len(order) < 2:
            raise FastaError(
                f"{self.files[0].path}: expected labels of two or more classes, received only {order[0]!r}; "
                "check the source of the labels, or pass classes=[...] if others occur in other files"
            )
        return order, torch.tensor([number[label] for label in found], dtype=torch.int64)

    def _common_width(self, pad_to: str | int | None) -> int:
        """The length of a row of tokens."""
        lengths = self._length
        if (lengths == 0).any():
            raise FastaError(
                f"{self.where(int((lengths == 0).argmax()))}: expected letters, received no sequence"
            )
        if pad_to is None:
            odd, expected = lengths != lengths[0], f"{lengths[0]} letters as in record {self.name(0)!r}"
        elif pad_to == "longest":
            return int(lengths.max())
        elif type(pad_to) is int and pad_to > 0:
            odd, expected = lengths > pad_to, f"at most {pad_to} letters"
        else:
            raise FastaError(
                f"FastaDataset: expected pad_to None, 'longest' or a length, received {pad_to!r}"
            )
        if odd.any():
            i = int(odd.argmax())
            raise FastaError(
                f"{self.where(i)}: expected {expected}, received {lengths[i]}; "
                f"choose pad_to='longest' (up to {lengths.max()} here), or make the lengths equal"
            )
        return int(lengths[0] if pad_to is None else pad_to)

    def _check_letters(self) -> None:
        step = max(1, (1 << 25) // self.width)
        for start in range(0, len(self), step):
            self._rows(np.arange(start, min(start + step, len(self))))

    # -- samples

    def __len__(self) -> int:
        """How many sequences."""
        return len(self._file)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The tokens (length,) uint8 and the label of one sequence."""
        index = range(len(self))[index]
        return self._rows(np.array([index]))[0], int(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Many samples with one read; this is what a DataLoader calls."""
        tokens, labels = self.batch(indices)
        return list(zip(tokens.unbind(0), labels.tolist(), strict=True))

    def batch(self, indices: Any) -> tuple[Tensor, Tensor]:
        """The tokens (b, length) uint8 and labels (b,) int64 of sequences by number."""
        chosen = np.asarray(indices, np.int64)
        return self._rows(chosen), self.labels[torch.from_numpy(chosen)]

    def _rows(self, chosen: np.ndarray) -> Tensor:
        if len(self.files) == 1:
            return self._fetch(0, chosen)
        out = torch.empty((len(chosen), self.width), dtype=torch.uint8)
        for i in np.unique(self._file[chosen]).tolist():
            places = np.flatnonzero(self._file[chosen] == i)
            out[torch.from_numpy(places)] = self._fetch(i, chosen[places])
        return out

    def _fetch(self, file: int, chosen: np.ndarray) -> Tensor:
        lengths = self._length[chosen]
        return self.files[file].fetch_arrays(
            self._record[chosen], np.zeros_like(lengths), lengths, pad=self.width
        )

    # -- the whole

    @cached_property
    def tokens(self) -> Tensor:
        """All tokens: (n, length) uint8, read on first use and then kept in this process."""
        return self._rows(np.arange(len(self)))

    @property
    def lengths(self) -> Tensor:
        """The letters of each sequence, padding apart: (n,) int64."""
        return torch.from_numpy(self._length.copy())

    @cached_property
    def names(self) -> list[str]:
        """The name of each sequence."""
        return [name for fasta in self.files for name in fasta]

    def name(self, index: int) -> str:
        """The name of one sequence."""
        return self.names[index]

    def where(self, index: int) -> str:
        """File, line and record of one sequence, for messages."""
        fasta, record = self.files[self._file[index]], int(self._record[index])
        return f"{fasta.path}, line {fasta.line(record)}, record {fasta.names[record]!r}"

    def counts(self) -> LetterCounts:
        """How many letters each clause of the alphabet's policy touched."""
        return sum((fasta.counts() for fasta in self.files), LetterCounts())

    def __repr__(self) -> str:
        files = ", ".join(fasta.path for fasta in self.files)
        classes = f"classes {', '.join(self.classes)}" if self.classes else "unlabelled"
        return f"FastaDataset({files}: {len(self):,} sequences of {self.width:,}, {classes}, {self.alphabet})"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("tokens", "names")}


def _one_source(per_class: bool, label_pattern: str | None, labels: object, unlabelled: bool) -> None:
    given = {
        "one file per class": per_class,
        "label_pattern": label_pattern is not None,
        "labels": labels is not None,
        "unlabelled": unlabelled,
    }
    chosen = [source for source, present in given.items() if present]
    if len(chosen) != 1:
        raise FastaError(
            f"FastaDataset: expected one source of labels, received {' and '.join(chosen) or 'none'}; "
            "give label_pattern= for labels in the headers, labels= for a table, a mapping of class to file, "
            "or unlabelled=True"
        )
