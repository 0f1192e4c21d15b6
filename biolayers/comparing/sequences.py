"""Sequences of any source in one array of tokens: what comparing them starts from."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from torch import Tensor

from biolayers.alphabet import PAD, Alphabet
from biolayers.fasta import Fasta
from shared.errors import UserError

_CHUNK = 1 << 24  # tokens that are read from a dataset at once


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences one after the other: number i is `values[edges[i] : edges[i + 1]]`."""

    values: np.ndarray  # (letters,) uint8
    edges: np.ndarray  # (n + 1,) int64
    names: Sequence[str]
    labels: np.ndarray | None  # (n,) int64
    alphabet: Alphabet

    def __len__(self) -> int:
        """How many sequences."""
        return len(self.edges) - 1

    @property
    def lengths(self) -> np.ndarray:
        """The letters of each: (n,) int64."""
        return np.diff(self.edges)

    @cached_property
    def partner(self) -> np.ndarray:
        """The token of the other strand: (256,) uint8; that of the same letter where there is no other."""
        alphabet = self.alphabet
        return alphabet.complement_table if alphabet.stranded else np.arange(256, dtype=np.uint8)

    def take(self, chosen: np.ndarray) -> "Sequences":
        """Some of the sequences, by number."""
        lengths = self.lengths[chosen]
        edges = np.concatenate([[0], np.cumsum(lengths)])
        source = np.repeat(self.edges[chosen] - edges[:-1], lengths) + np.arange(edges[-1])
        labels = None if self.labels is None else self.labels[chosen]
        names = [self.names[i] for i in chosen.tolist()]
        return Sequences(self.values[source], edges, names, labels, self.alphabet)

    def digests(self, *, reverse_complement: bool) -> Iterator[tuple[bool, bytes]]:
        """A 128-bit digest of each, one for both strands, after whether it is the forward strand's."""
        both = reverse_complement and self.alphabet.stranded
        turned = self.partner[self.values][::-1].copy() if both else self.values
        total = len(self.values)
        for start, stop in zip(self.edges[:-1].tolist(), self.edges[1:].tolist(), strict=True):
            forward = blake2b(self.values[start:stop], digest_size=16).digest()
            key = forward
            if both:
                key = min(forward, blake2b(turned[total - stop : total - start], digest_size=16).digest())
            yield key == forward, key


def collect(source: Any, alphabet: Alphabet, *, what: str = "sequences") -> Sequences:
    """The sequences of a dataset, a `Subset`, a `Fasta` or its path, a matrix of tokens, or a list.

    Args:
        source: As said; a list may hold strings, Biopython's `Seq` and `SeqRecord`, and tokens (l,) uint8.
        alphabet: Of strings and tokens, and of files that are opened here; others have their own.
        what: How messages call the source.

    Raises:
        UserError: It is nothing of these, or a letter is refused.
    """
    if isinstance(source, (str, os.PathLike)):
        return _of_file(source, alphabet)
    if isinstance(source, Fasta):
        lengths = source.lengths
        values, edges = source.fetch_ragged(np.arange(len(source)), np.zeros_like(lengths), lengths)
        return Sequences(values.numpy(), edges.numpy(), list(source), None, source.alphabet)
    if isinstance(source, Tensor) and source.dim() == 2:
        names = [str(i) for i in range(len(source))]
        return _of_rows(list(source.cpu().numpy()), names, alphabet)
    if isinstance(source, (list, tuple)):
        return _of_list(source, alphabet, what)
    base, indices = resolve(source, what)
    return of_dataset(base, indices)


def resolve(dataset: Any, what: str = "sequences") -> tuple[Any, np.ndarray]:
    """The dataset below nested subsets and parts, and which of its samples are meant: (n,) int64."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        base, indices = resolve(dataset.dataset, what)
        return base, indices[np.asarray(dataset.indices, np.int64)]
    if not all(hasattr(dataset, name) for name in ("batch", "lengths", "name")):
        raise UserError(
            f"{what}: expected a FastaDataset or a Subset of one, received {type(dataset).__name__}"
        )
    return dataset, np.arange(len(dataset))


def of_dataset(base: Any, indices: np.ndarray) -> Sequences:
    """Some samples of a dataset that `resolve` accepts, as they are: not augmented."""
    lengths = np.asarray(base.lengths)[indices]
    edges = np.concatenate([[0], np.cumsum(lengths)])
    values = np.empty(int(edges[-1]), np.uint8)
    rows_of = getattr(base, "rows", None) or (lambda chosen: base.batch(chosen)[0])
    step = max(1, _CHUNK // max(1, int(lengths.max(initial=1))))
    for start in range(0, len(indices), step):
        stop = min(start + step, len(indices))
        rows = rows_of(indices[start:stop]).numpy()
        real = np.arange(rows.shape[1]) < lengths[start:stop, None]
        values[edges[start] : edges[stop]] = rows[real]
    return Sequences(values, edges, _Names(base, indices), strata_of(base)[indices], base.alphabet)


def strata_of(base: Any) -> np.ndarray:
    """The number of each sample's class: (n,) int64; -1 where there are no classes."""
    return base.strata.numpy() if hasattr(base, "strata") else np.full(len(base), -1)


class _Names(Sequence[str]):
    """The names of some samples of a dataset, looked up when asked for."""

    def __init__(self, base: Any, indices: np.ndarray) -> None:
        self._base, self._indices = base, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> str:  # type: ignore[override]
        return self._base.name(int(self._indices[place]))


def _of_file(path: str | os.PathLike[str], alphabet: Alphabet) -> Sequences:
    from biolayers.reading.batches import read_batches

    values, lengths, names = [], [], []
    for batch in read_batches(path, alphabet=alphabet):
        values.append(batch.tokens.numpy())
        lengths.append(batch.lengths.numpy())
        names += batch.names
    edges = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return Sequences(np.concatenate(values), edges, names, None, alphabet)


def _of_list(source: Sequence[Any], alphabet: Alphabet, what: str) -> Sequences:
    rows, names = [], []
    for i, each in enumerate(source):
        name = str(getattr(each, "id", i))
        if isinstance(each, Tensor) and each.dim() == 1:
            rows.append(each.cpu().numpy())
        elif isinstance(each, (str, bytes)) or hasattr(each, "seq") or hasattr(each, "__bytes__"):
            rows.append(alphabet.tokens(each, record=f"{what}, record {name}").numpy())
        else:
            raise UserError(
                f"{what}: expected strings, Biopython's sequences or tokens (l,), received "
                f"{type(each).__name__} at index {i}"
            )
        names.append(name)
    return _of_rows(rows, names, alphabet)


def _of_rows(rows: list[np.ndarray], names: list[str], alphabet: Alphabet) -> Sequences:
    """From rows of tokens; padding at their ends is dropped."""
    for i, row in enumerate(rows):
        if row.dtype != np.uint8:
            raise UserError(f"sequences: expected tokens as uint8, received {row.dtype} at index {i}")
    lengths = [int((row != PAD).nonzero()[0][-1]) + 1 if (row != PAD).any() else 0 for row in rows]
    edges = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    parts = [row[:length] for row, length in zip(rows, lengths, strict=True)]
    values = np.concatenate(parts) if parts else np.empty(0, np.uint8)
    return Sequences(np.ascontiguousarray(values), edges, names, None, alphabet)
