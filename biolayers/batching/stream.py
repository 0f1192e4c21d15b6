"""Batches of a file that is read from start to end: no index, any size, shuffled through a buffer."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from biolayers.alphabet import DNA, PAD, Alphabet
from biolayers.batching.position import Position
from biolayers.batching.randomness import coin, integers, shuffled
from biolayers.batching.samplers import ranks
from biolayers.errors import FastaError
from biolayers.labelled.labels import label_regex
from biolayers.labelled.targets import UNLABELLED
from shared.errors import UserError

Path = str | os.PathLike[str]

_DRAWS = 1024  # random numbers that are drawn at once


class _Read(NamedTuple):
    """A record on its way through the buffer."""

    number: int  # of the record in this epoch
    path: str
    header: str
    tokens: np.ndarray  # (length,) uint8


class FastaStream(IterableDataset[Any]):
    r"""Records of FASTA or FASTQ files (plain, gzip, bgzip, local or remote) in batches, as they are read.

    A batch is tokens (b, length) uint8 and labels (b,) int64. Shuffling is by a buffer: each record read
    takes the place of a random one of the buffer, which is given out; so the order is random within about
    `buffer` records, and memory holds no more. Files come in random order, too.

    Order, batches and strands depend on `seed` and epoch alone: any number of workers gives the same batches,
    as each reads all the text and makes every so many-th batch. `biolayers.loader` keeps count of them, and
    resumes by reading to the place where the loop stood. Several processes (`torch.distributed`) share each
    step's records, all have the same number of batches, and no record is left out or repeated.

    Args:
        paths: A file, or several.
        batch_size: Records in a batch (of each process).
        label_pattern: As of `FastaDataset`; without it every label is -1.
        classes: The classes in the order of their numbers, which cannot be found before all is read.
        pad_to: None expects all records as long as the first, "batch" pads to the longest of the batch, a
            number of letters to that length.
        shuffle: Whether to shuffle; without it records come as they stand in the files.
        buffer: Records in the buffer.
        reverse_complement: How probable it is that a record is read from the other strand.
        seed: Of order and strands.
        drop_last: Whether to leave out the records at the end that do not fill a batch in every process.
        records: How many records there are, if known: then `len(loader)` is, too. Trainers that want to know
            the last batch before it comes (Lightning) else read one batch ahead, which a resume would lose.
        alphabet: How letters become tokens, with its policy.
        rank: Number of this process, and `world` how many there are; by default by `torch.distributed`.
        world: See `rank`.

    Raises:
        UserError: The arguments contradict each other; while reading, if there are not `records` records.
        FastaError: While reading, what `read_batches` raises, or a label or length is not as it must be.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">a k=x\nACGT\n>b k=y\nTTG\n>c k=x\nGG\n")
        >>> stream = FastaStream(
        ...     path, batch_size=2, label_pattern="k=(.)", classes=["x", "y"], pad_to="batch", shuffle=False
        ... )
        >>> from biolayers import loader
        >>> for tokens, labels in loader(stream):
        ...     print(tokens.tolist(), labels.tolist())
        [[0, 1, 2, 3], [3, 3, 2, 255]] [0, 1]
        [[2, 2]] [0]
    """

    def __init__(
        self,
        paths: Path | Sequence[Path],
        *,
        batch_size: int,
        label_pattern: str | None = None,
        classes: Sequence[str] | None = None,
        pad_to: str | int | None = None,
        shuffle: bool = True,
        buffer: int = 10_000,
        reverse_complement: float = 0.0,
        seed: int = 0,
        drop_last: bool = False,
        records: int | None = None,
        alphabet: Alphabet = DNA,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        self.paths = [os.fspath(path) for path in several]
        if (label_pattern is None) != (classes is None):
            raise UserError("FastaStream: expected label_pattern and classes together, received only one")
        if not self.paths or batch_size < 1 or buffer < 1:
            raise UserError(
                f"FastaStream: expected files, a batch_size and a buffer from 1 on, received "
                f"{len(self.paths)} files, {batch_size} and {buffer}"
            )
        if not (pad_to in (None, "batch") or (type(pad_to) is int and pad_to > 0)):
            raise UserError(f"FastaStream: expected pad_to None, 'batch' or a length, received {pad_to!r}")
        regex, (group,) = label_regex(label_pattern or "()")
        self._label_group = None if label_pattern is None else (regex, group)
        self.classes = list(classes or [])
        self.batch_size, self.pad_to, self.shuffle, self.buffer = batch_size, pad_to, shuffle, buffer
        self.reverse_complement, self.seed, self.drop_last = reverse_complement, seed, drop_last
        self.records, self.alphabet = records, alphabet
        self._given = None if rank is None or world is None else (rank, world)
        # Epoch, first batch, rank and world of the pass, where workers that live on see them change.
        self._pass = torch.tensor([0, 0, *self._place()]).share_memory_()
        self._drawn: tuple[tuple[int, int], np.ndarray] = ((-1, -1), np.empty(0, np.int64))
        self._common: int | None = None  # the length of all records, once one was read
        self.position = Position(
            {"files": [os.path.basename(path) for path in self.paths], "batch_size": batch_size,
             "shuffle": shuffle, "buffer": buffer, "seed": seed, "drop_last": drop_last,
             "processes": self._place()[1]}
        )  # fmt: skip

    def _place(self) -> tuple[int, int]:
        return self._given or ranks()

    def begin(self, epoch: int, batch: int) -> None:
        """Have the next pass read an epoch from one of its batches on."""
        self._pass[:] = torch.tensor([epoch, batch, *self._place()])

    def batches(self) -> int | None:
        """How many batches this process gets in an epoch, if `records` is known."""
        if self.records is None:
            return None
        world = self._place()[1]
        full, rest = divmod(self.records, self.batch_size * world)
        return full + (rest >= world and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of this process (of this worker, in a worker) from where the pass begins."""
        epoch, start, rank, world = self._pass.tolist()
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step, reads in enumerate(self._steps(self._order(epoch), world)):
            if step >= start and (step - start) % workers == number:
                yield self._batch(reads[len(reads) * rank // world : len(reads) * (rank + 1) // world], epoch)

    # -- records in order

    def _order(self, epoch: int) -> Iterator[_Read]:
        reads = self._reads(epoch)
        if not self.shuffle:
            yield from reads
            return
        held: list[_Read] = []
        for read in reads:
            if len(held) < self.buffer:
                held.append(read)
                continue
            place = int(self._draws(epoch, read.number)[read.number % _DRAWS])
            yield held[place]
            held[place] = read
        for place in shuffled(self.seed, epoch, np.arange(len(held)), len(held), "stream's rest").tolist():
            yield held[place]

    def _draws(self, epoch: int, number: int) -> np.ndarray:
        """The places in the buffer for the block of records that `number` is in."""
        block = (epoch, number // _DRAWS)
        if self._drawn[0] != block:
            numbers = np.arange(_DRAWS) + block[1] * _DRAWS
            self._drawn = block, integers(self.seed, epoch, numbers, "stream", 0, self.buffer)
        return self._drawn[1]

    def _reads(self, epoch: int) -> Iterator[_Read]:
        from biolayers.reading.batches import read_batches

        files = np.arange(len(self.paths))
        if self.shuffle:
            files = shuffled(self.seed, epoch, files, len(files), "stream's files")
        number = 0
        for path in (self.paths[i] for i in files.tolist()):
            for batch in read_batches(path, alphabet=self.alphabet):
                tokens, edges = batch.tokens.numpy(), batch.offsets.tolist()
                for i, header in enumerate(batch.headers):
                    yield _Read(number, path, header, tokens[edges[i] : edges[i + 1]].copy())
                    number += 1
        if self.records not in (None, number):
            raise UserError(
                f"FastaStream: expected {self.records:,} records as told, received {number:,} in "
                f"{', '.join(self.paths)}; correct records="
            )

    def _steps(self, reads: Iterable[_Read], world: int) -> Iterator[list[_Read]]:
        """The records of all processes' batches; fewer than one for each at the end join the last step."""
        size = self.batch_size * world
        held: list[_Read] = []
        for read in reads:
            held.append(read)
            if len(held) == size + world:
                yield held[:size]
                held = held[size:]
        if self.drop_last:
            held = held[: len(held) // size * size]
        elif 0 < len(held) < world:
            raise UserError(
                f"loader: expected at least one record for each of {world} processes, received {len(held)}"
            )
        if held:
            yield held

    # -- batches

    def _batch(self, reads: list[_Read], epoch: int) -> tuple[Tensor, Tensor]:
        lengths = np.array([len(read.tokens) for read in reads])
        width = self._width(reads, lengths)
        rows = np.full((len(reads), width), PAD, np.uint8)
        for row, read in zip(rows, reads, strict=True):
            row[: len(read.tokens)] = read.tokens
        tokens = torch.from_numpy(rows)
        if self.reverse_complement:
            numbers = [read.number for read in reads]
            minus = torch.from_numpy(coin(self.seed, epoch, numbers, "strand", self.reverse_complement))
            partners = self.alphabet.reverse_complement(tokens[minus], torch.from_numpy(lengths)[minus])
            tokens[minus] = partners
        return tokens, torch.tensor([self._label(read) for read in reads])

    def _width(self, reads: list[_Read], lengths: np.ndarray) -> int:
        if self.pad_to == "batch":
            return int(lengths.max())
        if isinstance(self.pad_to, int):
            wrong, width, expected = lengths > self.pad_to, self.pad_to, f"at most {self.pad_to}"
        else:
            self._common = width = self._common or int(lengths[0])
            wrong, expected = lengths != width, f"{width}"
        if wrong.any():
            read = reads[int(wrong.argmax())]
            raise FastaError(
                f"{_where(read)}: expected {expected} letters, received {len(read.tokens)}; "
                "choose pad_to='batch', or a length"
            )
        return width

    def _label(self, read: _Read) -> int:
        if self._label_group is None:
            return UNLABELLED
        pattern, group = self._label_group
        match = pattern.search(read.header)
        if match is None or match[group] not in self.classes:
            raise FastaError(
                f"{_where(read)}: expected a label among {self.classes} by the pattern {pattern.pattern!r}, "
                f"received the header {read.header[:100]!r}; mend the header, the pattern or classes"
            )
        return self.classes.index(match[group])

    def __repr__(self) -> str:
        order = f"shuffled through {self.buffer:,}" if self.shuffle else "in order"
        return f"FastaStream({', '.join(self.paths)}: batches of {self.batch_size}, {order}, {self.alphabet})"


def _where(read: _Read) -> str:
    return f"{read.path}, record {read.header.split(maxsplit=1)[0]!r}"
