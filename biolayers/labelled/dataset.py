"""Labelled sequences: one or several FASTA files as a map-style dataset of tokens."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA, Alphabet
from biolayers.errors import FastaError
from biolayers.fasta import Fasta
from biolayers.labelled.base import LabelledRecords, Shape
from biolayers.labelled.labelling import Labelling
from biolayers.labelled.labels import Cells
from biolayers.labelled.targets import UNLABELLED as UNLABELLED
from biolayers.labelled.targets import Labels
from biolayers.labelled.targets import unlabelled as no_labels
from biolayers.policy import LetterCounts

Path = str | os.PathLike[str]


class FastaDataset(LabelledRecords):
    r"""Sequences of FASTA files with a label each, read from the files when asked for.

    Labels come from exactly one source: a pattern for the headers, a table or mapping from name to label, or
    one file per class. They are one class for each record; with `separator` or several label columns any
    number of classes; with `targets` one or several numbers. Every letter is checked once, when the dataset
    is made, so reading cannot fail later. The dataset may be forked, pickled and read from several workers
    and threads; `biolayers.loader` reads it in whole batches.

    Args:
        path: A FASTA file, or a mapping from class to file such as `{"enhancer": "a.fa", "other": "b.fa"}`.
        label_pattern: A regular expression searched for in each header; its group `label`, else its first
            group, is the label: `class=(\w+)`. With `targets`, the groups of these names.
        labels: A CSV, TSV or Parquet file with a column of names and one or several of labels, or a mapping
            from name to label (or to a list, with several `targets`).
        unlabelled: Whether to do without labels (for prediction): each label is then -1.
        name_column: The table's column of names, when its header calls it neither name nor id.
        label_column: The table's column of labels, when its header calls it neither label nor class; several
            columns of 0 and 1 give each record any number of classes, called as the columns.
        separator: Splits a label such as `liver;brain` into any number of classes.
        targets: What to predict is one number (a name: of the table's column, of the pattern's group) or
            several (a list of names): labels are then (n,) or (n, targets) float32.
        missing: What becomes of records without label, or with an empty or nan target: "error"; "drop" leaves
            them out (`dropped` counts them); "nan" keeps them, for losses that skip nan.
        classes: The classes in the order of their numbers; by default those found, sorted.
        pad_to: What to do with different lengths: None is an error; "longest", a number of letters, or
            "batch" (the longest of each batch) fills shorter sequences with `PAD` at the end.
        window: Reads only that many letters from the middle of longer records.
        jitter: In training, how far the window may move to either side, within the record.
        reverse_complement: In training, how probable it is that a record is read from the other strand.
        packed: Whether batches come without padding: tokens one after the other, and offsets.
        return_lengths: Whether batches hold the lengths, too: tokens, lengths, labels.
        seed: Of jitter and strands, which depend on seed, epoch and record alone; see `biolayers.batching`.
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
        >>> both = FastaDataset(path, labels={"a": 0.5, "b": -2}, targets="activity", reverse_complement=0.5)
        >>> both.batch([0, 1], epoch=1)
        (tensor([[0, 1, 2, 3],
                [4, 1, 0, 0]], dtype=torch.uint8), tensor([ 0.5000, -2.0000]))
    """

    def __init__(
        self,
        path: Path | Mapping[str, Path],
        *,
        label_pattern: str | None = None,
        labels: Path | Mapping[str, Any] | None = None,
        unlabelled: bool = False,
        name_column: str | None = None,
        label_column: str | Sequence[str] | None = None,
        separator: str | None = None,
        targets: str | Sequence[str] | None = None,
        missing: str = "error",
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
        _one_source(isinstance(path, Mapping), label_pattern, labels, unlabelled)
        labelling = Labelling(label_pattern, labels, name_column, label_column, separator, targets, missing)
        shape = Shape(pad_to, window, jitter, reverse_complement, packed, return_lengths, seed)
        self._open(path, alphabet)
        self._set_up(shape, self._labelled(path, labelling, classes, unlabelled=unlabelled))

    def _open(self, path: Path | Mapping[str, Path], alphabet: Alphabet) -> None:
        self.alphabet = alphabet
        paths = list(path.values()) if isinstance(path, Mapping) else [path]
        if not paths:
            raise FastaError("FastaDataset: expected at least one file, received an empty mapping")
        self.files = [Fasta(each, alphabet=alphabet) for each in paths]
        sizes = [len(fasta) for fasta in self.files]
        self._file = np.repeat(np.arange(len(sizes)), sizes)  # (n,): which file
        self._record = np.concatenate([np.arange(size) for size in sizes])  # (n,): which record of it
        self._length = np.concatenate([fasta.lengths for fasta in self.files])
        self.dropped = 0  # records left out because they have no label

    def _labelled(
        self,
        path: Path | Mapping[str, Path],
        labelling: Labelling,
        classes: Sequence[str] | None,
        *,
        unlabelled: bool,
    ) -> Labels:
        if unlabelled:
            return no_labels(len(self._file), classes)
        if isinstance(path, Mapping):
            titles = [str(label) for label in path]
            found: list[Cells] = [[titles[file]] for file in self._file.tolist()]
        else:
            found = labelling.find(self.files[0])
        kept = np.array(labelling.kept(found), bool)
        self.dropped = int((~kept).sum())
        if self.dropped:
            self._file, self._record = self._file[kept], self._record[kept]
            self._length = self._length[kept]
            found = [cells for cells, stays in zip(found, kept.tolist(), strict=True) if stays]
        return labelling.numbers(found, classes, where=self.where, source=self.files[0].path)

    # -- letters

    def _read(
        self, chosen: np.ndarray, starts: np.ndarray, ends: np.ndarray, minus: np.ndarray | None, width: int
    ) -> Tensor:
        strands = None if minus is None else 1 - 2 * minus.astype(np.int8)
        if len(self.files) == 1:
            return self.files[0].fetch_arrays(self._record[chosen], starts, ends, strands, pad=width)
        out = torch.empty((len(chosen), width), dtype=torch.uint8)
        for file, places in self._by_file(chosen):
            some = strands if strands is None else strands[places]
            records = self._record[chosen[places]]
            rows = self.files[file].fetch_arrays(records, starts[places], ends[places], some, pad=width)
            out[torch.from_numpy(places)] = rows
        return out

    def _read_packed(
        self, chosen: np.ndarray, starts: np.ndarray, ends: np.ndarray, minus: np.ndarray | None
    ) -> tuple[Tensor, Tensor]:
        strands = None if minus is None else 1 - 2 * minus.astype(np.int8)
        if len(self.files) == 1:
            return self.files[0].fetch_ragged(self._record[chosen], starts, ends, strands)
        pieces: list[Tensor] = [torch.empty(0, dtype=torch.uint8)] * len(chosen)
        for file, places in self._by_file(chosen):
            some = strands if strands is None else strands[places]
            tokens, offsets = self.files[file].fetch_ragged(
                self._record[chosen[places]], starts[places], ends[places], some
            )
            for place, piece in zip(places.tolist(), torch.tensor_split(tokens, offsets[1:-1]), strict=True):
                pieces[place] = piece
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(ends - starts)]))
        return torch.cat([torch.empty(0, dtype=torch.uint8), *pieces]), offsets

    def _by_file(self, chosen: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Each file, and the places of its records in a batch."""
        files = self._file[chosen]
        for file in np.unique(files).tolist():
            yield file, np.flatnonzero(files == file)

    # -- the whole

    @cached_property
    def names(self) -> list[str]:
        """The name of each record."""
        names = [fasta.names for fasta in self.files]
        where = zip(self._file.tolist(), self._record.tolist(), strict=True)
        return [names[file][record] for file, record in where]

    def name(self, index: int) -> str:
        """The name of one record."""
        return self.names[index]

    def where(self, index: int) -> str:
        """File, line and record of one sequence, for messages."""
        fasta, record = self.files[self._file[index]], int(self._record[index])
        return f"{fasta.path}, line {fasta.line(record)}, record {fasta.names[record]!r}"

    def counts(self) -> LetterCounts:
        """How many letters of the files each clause of the alphabet's policy touched."""
        return sum((fasta.counts() for fasta in self.files), LetterCounts())

    def __repr__(self) -> str:
        files = ", ".join(fasta.path for fasta in self.files)
        left_out = f", {self.dropped:,} without label left out" if self.dropped else ""
        return f"FastaDataset({files}: {self._described()}{left_out})"


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
