"""Random access to a FASTQ file: sequences as of a FASTA file, and their qualities."""

from typing import Any

import numpy as np
from torch import Tensor

from biolayers.fasta import Fasta, Record
from biolayers.kernels.numba.memory import fresh_bytes
from biolayers.reading.gathering import Wanted, gather
from biolayers.reading.requests import checked, minus_of, width_of


class Fastq(Fasta):
    r"""A FASTQ file, indexed as by `samtools fqidx`: all that `Fasta` does, and qualities.

    Sequences and qualities may be wrapped, both alike. Arguments and errors are those of `Fasta`.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fq")
        >>> with open(path, "w") as file:
        ...     _ = file.write("@a\nACGT\n+\nII#!\n")
        >>> fq = Fastq(path)
        >>> fq["a"].tokens(), fq.qualities([0], [1], [4])
        (tensor([0, 1, 2, 3], dtype=torch.uint8), tensor([[40,  2,  0]], dtype=torch.uint8))
    """

    _fastq = True

    def qualities(
        self, contig_ids: Any, starts: Any, ends: Any, strands: Any = None, *, pad: bool | int = False
    ) -> Tensor:
        """The Phred scores of intervals: (n, length) uint8, 0 to 93, in the direction of the strand.

        Arguments are those of `fetch_arrays`; `PAD` (255) fills shorter rows.
        """
        from biolayers.kernels.numba import fetch as kernel

        ids, starts, ends = checked(self.path, self._index, contig_ids, starts, ends)
        minus = minus_of(self.path, self.alphabet, strands, len(ids))
        width = width_of(self.path, self._index, ids, starts, ends, pad)
        out = fresh_bytes(len(ids), width)
        wanted = Wanted(ids, starts, ends, minus, np.arange(len(ids)) * width, np.full(len(ids), width))
        table = self._index.quality_table
        gather(
            kernel.fetch_qualities, self._source, self._index, self.alphabet, wanted, out.view(-1).numpy(),
            table=table,
        )  # fmt: skip
        return out

    def __getitem__(self, name: str) -> "FastqRecord":
        """The record called `name`."""
        return FastqRecord(self, name, self._id(name))


class FastqRecord(Record):
    """One record of a `Fastq`."""

    fasta: Fastq

    def qualities(self, start: int = 0, end: int | None = None, *, strand: str = "+") -> Tensor:
        """The Phred scores of a 0-based half-open interval, by default of the record: (length,) uint8."""
        end = len(self) if end is None else end
        return self.fasta.qualities([self.id], [start], [end], [strand])[0]
