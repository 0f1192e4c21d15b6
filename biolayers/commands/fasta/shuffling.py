"""Shuffled copies of the records of a file."""

import numpy as np
import torch

from biolayers import shuffle as shuffled
from biolayers.commands.fasta.streams import ALPHABETS, check_width, opened, output, write_record
from shared.errors import UserError
from shared.progress import bar

_CHUNK = 1 << 22  # letters of copies that are shuffled at once


def shuffle(
    path: str,
    *,
    k: int,
    count: int,
    seed: int,
    unknown: str,
    alphabet: str,
    width: int,
    out: str,
    force: bool,
) -> None:
    """Write `count` copies of each record, called NAME_shuffle1 and so on."""
    check_width(width)
    for option, value, least in (("--k", k, 1), ("--count", count, 1), ("--seed", seed, 0)):
        if value < least:
            raise UserError(f"{option}: expected a whole number from {least} on, received {value}")
    with opened(path, ALPHABETS[alphabet]) as fasta:
        names, lengths = fasta.names, fasta.lengths
        with (
            output(out, force=force) as write,
            bar(len(fasta), "records", show=out != "-") as advance,
        ):
            for first, last in _runs(lengths * count):
                chosen = np.arange(first, last)
                tokens = fasta.fetch_arrays(chosen, 0 * chosen, lengths[chosen], pad=True)
                copies = shuffled(
                    tokens,
                    k,
                    seed=seed,
                    count=count,
                    unknown=unknown,
                    lengths=torch.from_numpy(lengths[chosen]),
                    rows=torch.from_numpy(chosen),
                    alphabet=fasta.alphabet,
                )
                for row, i in zip(copies, chosen.tolist(), strict=True):
                    for number, copy in enumerate(row[:, : lengths[i]], 1):
                        write_record(write, f"{names[i]}_shuffle{number}", fasta.alphabet.text(copy), width)
                advance(len(chosen))


def _runs(sizes: np.ndarray):
    """First and last of records that are padded to one length together."""
    first = 0
    longest = 0
    for i, size in enumerate(sizes.tolist()):
        longest = max(longest, size)
        if i > first and longest * (i + 1 - first) > _CHUNK:
            yield first, i
            first, longest = i, size
    if first < len(sizes):
        yield first, len(sizes)
