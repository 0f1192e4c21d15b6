"""Windows over a genome against the usual dataset: strings by pysam, turned in Python, then a table.

    python benchmarks/intervals.py [--write] [--threads N] [--seconds S]

Every window is moved and read from a random strand; ours draws that for each batch, the peer is given it. The
results are compared first: no time is shown for paths that disagree. The genome is random.
"""

from collections.abc import Iterator

import numpy as np
import pysam
from torch import Tensor
from turns import Case, compare, tokens_of

from biolayers import IntervalDataset
from biolayers.batching.randomness import coin, integers

LETTERS = 100_000_000
JITTER = 50
BATCHES = 50
SIZES = ((64, 1000), (8, 131_072))  # windows of a batch, letters of a window
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def cases(path: str, draw: np.random.Generator) -> Iterator[Case]:
    return (case(path, draw, windows, length) for windows, length in SIZES)


def case(path: str, draw: np.random.Generator, windows: int, length: int) -> Case:
    starts = draw.integers(JITTER, LETTERS - length - JITTER, windows * BATCHES)
    given = [("chr1", start, start + length) for start in starts.tolist()]
    data = IntervalDataset(path, given, jitter=JITTER, reverse_complement=0.5)
    fasta = pysam.FastaFile(path)
    rows = np.arange(len(given))
    moved = (starts + integers(0, 0, rows, "jitter", -JITTER, JITTER + 1)).tolist()
    turned = coin(0, 0, rows, "strand").tolist()

    def strings(batch: int) -> Tensor:
        found = []
        for i in range(batch * windows, (batch + 1) * windows):
            text = fasta.fetch("chr1", moved[i], moved[i] + length)
            found.append(text.translate(COMPLEMENT)[::-1] if turned[i] else text)
        return tokens_of(found).view(windows, length)

    def tokens(batch: int) -> Tensor:
        return data.batch(rows[batch * windows : (batch + 1) * windows], epoch=0)[0]

    return Case(f"{windows} windows of {length:,}", windows * length, BATCHES, tokens, strings)


if __name__ == "__main__":
    compare("intervals", "Windows over a genome", __doc__.split("\n", 1)[0], cases, LETTERS)
