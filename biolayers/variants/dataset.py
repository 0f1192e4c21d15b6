"""Variants as pairs of windows: the reference, and the same with the alternative allele."""

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import PAD
from biolayers.batching import randomness
from biolayers.batching.batches import BatchDataset
from biolayers.fasta import Fasta
from biolayers.variants.edits import Edits, encoded
from biolayers.variants.errors import VariantError
from biolayers.variants.reference import matched
from biolayers.variants.splicing import Spans, Splicer
from biolayers.variants.table import Variants

# Of the letters by which the alternative is longer, how many does it lose on the left?
_EXTENDS = {
    "right": lambda growth: 0 * growth,
    "left": lambda growth: growth,
    "both": lambda growth: growth // 2,
}
_BEYOND = ("pad", "unknown", "error")


class VariantDataset(BatchDataset):
    r"""For each variant the window around it with the reference and with the alternative allele, as tokens.

    The first letter that the alleles do not share stands in column `length // 2` of both windows (on the
    forward strand, without jitter), unless `starts` places the windows; for an insertion that is the first
    inserted letter, for a deletion the first deleted one in the reference. Both windows have `length`
    letters: where the alternative is shorter it is extended from the reference, where it is longer it loses
    letters, on the side that `extend` says.

    `batch` gives the tokens (b, 2, length) uint8, the reference first, and the targets if there are any; with
    `both_strands` the tokens are (b, 2, 2, length), allele then strand. Jitter and strands are drawn where an
    epoch is given; see `biolayers.batching` for what all datasets have in common. The dataset may be forked,
    pickled and read from several workers and threads.

    Args:
        fasta: The reference, a `Fasta` or its path; its alphabet's policy applies to the alleles, too.
        variants: `Variants`, or what `Variants.of` takes.
        length: Letters of a window, at least 1.
        starts: (n,) integers: the 0-based first letter of each window, for windows that are not about the
            variant but about a gene or a junction; the variant must lie in its window.
        extend: "right" (the alternative gives or takes letters at the end of the window, so all columns
            before the variant agree), "left" (at its start, so all columns after it agree), or "both" (half
            of them on each side).
        beyond: What stands where a window leaves its contig: "pad" (`PAD`), "unknown" (the token of N), or
            "error", which refuses such variants when the dataset is made.
        mismatch: What to do with variants whose reference allele is not in the file: "error", or "skip",
            counted in `variants.skipped` and the log.
        contigs: The same for contigs that the file does not have.
        both_strands: Whether to give each window also as its reverse complement.
        jitter: Windows move by up to so many letters to either side, the two of a pair alike; at most half of
            `length`.
        reverse_complement: The probability that a pair is read from the other strand.
        targets: (n,) or (n, ...) numbers, one row for each of the given variants.
        seed: Of jitter and strands.

    Raises:
        VariantError: A variant does not fit the file (with file, line and both letters), an allele is refused
            by the alphabet, or an option is not as it must be.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">one\nAACCGGTTAC\n")
        >>> pairs = VariantDataset(path, [("one", 4, "G", "T"), ("one", 5, "GTT", "G")], length=5)
        >>> pairs[0]
        (tensor([[1, 1, 2, 2, 3],
                [1, 1, 3, 2, 3]], dtype=torch.uint8),)
        >>> (tokens,) = pairs.batch([1, 0])
        >>> [pairs.fasta.alphabet.text(pair) for pair in tokens]
        [['GGTTA', 'GGAC'], ['CCGGT', 'CCTGT']]
    """

    def __init__(
        self,
        fasta: Fasta | str | os.PathLike[str],
        variants: Any,
        *,
        length: int,
        starts: Any = None,
        extend: str = "right",
        beyond: str = "pad",
        mismatch: str = "error",
        contigs: str = "error",
        both_strands: bool = False,
        jitter: int = 0,
        reverse_complement: float = 0.0,
        targets: Any = None,
        seed: int = 0,
    ):
        self.fasta = fasta if isinstance(fasta, Fasta) else Fasta(fasta)
        given = Variants.of(variants)
        self.variants, kept = matched(given, self.fasta, mismatch=mismatch, contigs=contigs)
        self.length, self.both_strands = length, both_strands
        self.jitter, self.reverse_complement, self.seed = jitter, reverse_complement, seed
        self._check(extend, beyond)
        self.targets = _targets(targets, len(given), kept)
        edits = encoded(self.variants, self.fasta.alphabet)
        self._start = self._starts(starts, edits, len(given), kept)
        self._end = self.fasta.lengths[edits.contig]  # (n,) of the contig
        self._growth = edits.growth
        self._moved = _EXTENDS[extend](self._growth)
        if beyond == "error":
            self._refuse_beyond()
        fill = PAD if beyond == "pad" else self.fasta.alphabet.unknown_token
        every = np.arange(len(edits))  # the list of the alternative: one edit
        self._splicer = Splicer(
            self.fasta, edits, every, length, PAD if fill is None else fill, turn_fill=True
        )

    def _check(self, extend: str, beyond: str) -> None:
        choices = (("extend", extend, tuple(_EXTENDS)), ("beyond", beyond, _BEYOND))
        for name, value, known in choices:
            if value not in known:
                raise VariantError(
                    f"VariantDataset: expected {name} to be one of {', '.join(map(repr, known))}, "
                    f"received {value!r}"
                )
        if self.length < 1 or not 0 <= self.jitter <= self.length // 2:
            raise VariantError(
                "VariantDataset: expected length from 1 on, and jitter from 0 to half of it, received "
                f"{self.length} and {self.jitter}"
            )
        if not 0 <= self.reverse_complement <= 1:
            raise VariantError(
                "VariantDataset: expected reverse_complement, a probability, from 0 to 1, received "
                f"{self.reverse_complement}"
            )
        if self.both_strands and self.reverse_complement:
            raise VariantError(
                "VariantDataset: expected both_strands or reverse_complement, received both; with both "
                "strands given there is none to draw"
            )
        alphabet = self.fasta.alphabet
        if (self.both_strands or self.reverse_complement) and not alphabet.stranded:
            raise VariantError(f"VariantDataset: expected one strand, as {alphabet} has no complement")
        if beyond == "unknown" and alphabet.unknown_token is None:
            raise VariantError(f"VariantDataset: expected beyond='pad', as {alphabet} has no unknown letter")

    def _starts(self, given: Any, edits: Edits, n: int, kept: np.ndarray) -> np.ndarray:
        """Where each window begins, perhaps before its contig: (k,) int64."""
        if given is None:
            return edits.start - self.length // 2
        starts = np.asarray(given)
        if starts.shape != (n,) or starts.dtype.kind not in "iu":
            raise VariantError(
                f"VariantDataset: expected {n} whole numbers as starts, one per variant, received "
                f"{starts.dtype} of shape {starts.shape}"
            )
        starts = starts[kept].astype(np.int64)
        low, high = starts + self.jitter, starts + self.length - self.jitter
        outside = (edits.start < low) | (edits.start >= high)
        if outside.any():
            i = int(outside.argmax())
            jitter = f", {self.jitter} letters from its edges for the jitter" if self.jitter else ""
            raise VariantError(
                f"{self.variants.where(i)}: expected a variant in its window, {starts[i]:,} to "
                f"{starts[i] + self.length:,}{jitter}, received one that begins at {edits.start[i]:,}; "
                "choose another start or a larger length"
            )
        return starts

    def _refuse_beyond(self) -> None:
        low = self._start + np.minimum(self._moved, 0) - self.jitter
        high = self._start + self.length + np.maximum(self._moved - self._growth, 0) + self.jitter
        beyond = (low < 0) | (high > self._end)
        if beyond.any():
            i = int(beyond.argmax())
            raise VariantError(
                f"{self.variants.where(i)}: expected a window within the contig (0 to {self._end[i]:,}), "
                f"received {low[i]:,} to {high[i]:,}; choose beyond='pad', a smaller length, or leave it out"
            )

    # -- samples

    def __len__(self) -> int:
        """How many variants."""
        return len(self.variants)

    def batch(self, indices: Any, *, epoch: int | None = None) -> tuple[Tensor, ...]:
        """The tokens (b, 2, length) uint8 of variants by number, and their targets (b, ...) if there are any.

        Args:
            indices: (b,) integers.
            epoch: What jitter and strands are drawn for; None for windows as they are.
        """
        chosen = np.asarray(indices, np.int64).reshape(-1)
        tokens = self._windows(chosen, epoch)
        return (tokens,) if self.targets is None else (tokens, self.targets[torch.from_numpy(chosen)])

    def _windows(self, chosen: np.ndarray, epoch: int | None) -> Tensor:
        """One window of the reference per variant is read; two rows, or four, are made of it."""
        b, strands = len(chosen), 1 + self.both_strands
        shift, minus = self._drawn(chosen, epoch)
        start, end = self._start[chosen] + shift, self._end[chosen]
        moved, growth = self._moved[chosen], self._growth[chosen]
        low = np.clip(start + np.minimum(moved, 0), 0, end)
        high = np.clip(start + self.length + np.maximum(moved - growth, 0), low, end)

        def rows(reference: Any, alternative: Any) -> np.ndarray:  # (b,) twice to (b * 2 * strands,)
            pair = np.stack(np.broadcast_arrays(reference, alternative), axis=1)
            return np.repeat(pair.reshape(-1), strands)

        begin = rows(start, start + np.minimum(moved, 0))
        made = self._splicer(
            Spans(self.variants.contig[chosen], low, high),
            window=np.repeat(np.arange(b), 2 * strands),
            start=np.maximum(begin, 0),
            stop=rows(high, high),
            skip=rows(np.zeros_like(moved), np.maximum(moved, 0)),
            lead=np.maximum(-begin, 0),
            first=rows(chosen, chosen),
            last=rows(chosen, chosen + 1),
            minus=np.tile([False, True], 2 * b) if self.both_strands else np.repeat(minus, 2),
        )
        shape = (b, 2, 2, self.length) if self.both_strands else (b, 2, self.length)
        return made.tokens.view(shape)

    def _drawn(self, chosen: np.ndarray, epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
        """By how much each pair moves, (b,) int64, and whether it is turned, (b,) bool."""
        if epoch is None:
            return np.zeros(len(chosen), np.int64), np.zeros(len(chosen), bool)
        jitter, probability = self.jitter, self.reverse_complement
        return (
            randomness.integers(self.seed, epoch, chosen, "variant jitter", -jitter, jitter + 1),
            randomness.coin(self.seed, epoch, chosen, "variant strand", probability),
        )

    # -- the whole

    @property
    def contigs(self) -> list[str]:
        """The contig of each variant, for splits by chromosome."""
        return [self.variants.contigs[i] for i in self.variants.contig]

    def __repr__(self) -> str:
        strands = ", both strands" if self.both_strands else ""
        return f"VariantDataset({self.variants} in {self.fasta.path}, windows of {self.length:,}{strands})"


def _targets(given: Any, n: int, kept: np.ndarray) -> Tensor | None:
    """The targets of the variants that were kept: (k, ...)."""
    if given is None:
        return None
    targets = torch.as_tensor(given if isinstance(given, Tensor) else np.asarray(given))
    if targets.dim() < 1 or len(targets) != n:
        raise VariantError(
            f"VariantDataset: expected {n} rows of targets, one per variant, received shape "
            f"{tuple(targets.shape)}"
        )
    return targets[torch.from_numpy(kept)]
