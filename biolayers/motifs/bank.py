"""Several motifs at once, as the tensors that the ops and layers take."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA
from biolayers.motifs.errors import MotifError
from biolayers.motifs.motif import Motif, as_motifs, background_of

UNKNOWN = ("skip", "zero", "expected")


@dataclass(frozen=True)
class MotifBank(Sequence[Motif]):
    """An ordered set of motifs against one background; compares, hashes and pickles as its motifs do.

    Args:
        motifs: Motifs, consensus strings, or motifs of Biopython; one or several.
        background: The share of A, C, G and T for all of them; by default their own, which must agree.

    Raises:
        MotifError: There is none, or their backgrounds differ and none is given.

    Example:
        >>> bank = MotifBank([Motif("TATAWAW", name="TATA"), Motif("GGGCGG", name="GC")])
        >>> bank
        MotifBank(2 motifs of 6 to 7 positions: TATA, GC)
        >>> bank["GC"].consensus, bank.weight().shape
        ('GGGCGG', torch.Size([2, 4, 7]))
    """

    motifs: Any  # becomes a tuple of `Motif`
    background: Any = None

    def __post_init__(self) -> None:
        motifs = as_motifs(self.motifs)
        if not motifs:
            raise MotifError("MotifBank: expected at least one motif, received none")
        background = self.background
        if background is None:
            background = motifs[0].background
            other = next((each for each in motifs if each.background != background), None)
            if other is not None:
                raise MotifError(
                    f"MotifBank: expected one background, received {_shown(background)} and for "
                    f"{other.name or 'a motif'} {_shown(other.background)}; give background="
                )
        background = background_of(background)
        object.__setattr__(self, "background", background)
        object.__setattr__(self, "motifs", tuple(each.with_background(background) for each in motifs))

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        background: Any = None,
        pseudocount: float | None = None,
    ) -> "MotifBank":
        """The motifs of a JASPAR, MEME or TRANSFAC file.

        Args:
            path: Of the file.
            format: "jaspar", "meme" or "transfac"; by default what the text begins like.
            background: In place of the file's (MEME), or of uniform shares.
            pseudocount: By default that of `Motif`.

        Raises:
            MotifError: The file cannot be read or is not well formed (with the line).
        """
        from biolayers.motifs.reading import read

        fields = {} if pseudocount is None else {"pseudocount": pseudocount}
        return cls(tuple(read(path, format=format, **fields)), background)

    # -- a sequence of motifs

    def __len__(self) -> int:
        """How many motifs there are."""
        return len(self.motifs)

    def __iter__(self) -> Iterator[Motif]:
        """The motifs in their order."""
        return iter(self.motifs)

    @overload
    def __getitem__(self, which: int | str) -> Motif: ...
    @overload
    def __getitem__(self, which: slice) -> "MotifBank": ...
    def __getitem__(self, which: Any) -> Any:
        """A motif by number or name, or a bank of some of them."""
        if isinstance(which, slice):
            return MotifBank(self.motifs[which], self.background)
        if isinstance(which, str):
            for motif in self.motifs:
                if motif.name == which:
                    return motif
            raise MotifError(f"MotifBank: expected one of {_some(self.names)}, received {which!r}")
        return self.motifs[which]

    def __repr__(self) -> str:
        low, high = int(self.widths.min()), int(self.widths.max())
        size = f"{low} positions" if low == high else f"{low} to {high} positions"
        count = f"{len(self)} motif{'s' if len(self) > 1 else ''}"
        return f"MotifBank({count} of {size}: {_some(self.names)})"

    @property
    def names(self) -> list[str]:
        """The names of the motifs, or their consensus where they have none."""
        return [motif.name or motif.consensus for motif in self.motifs]

    # -- tensors

    @cached_property
    def widths(self) -> np.ndarray:
        """How many positions each motif has: (m,) int64."""
        return np.array([len(motif) for motif in self.motifs], np.int64)

    @cached_property
    def log_odds(self) -> np.ndarray:
        """The log-odds of all motifs in bits, with zeros beyond their widths: (m, 4, w) float64."""
        out = np.zeros((len(self), 4, int(self.widths.max())))
        for table, motif in zip(out, self.motifs, strict=True):
            table[:, : len(motif)] = motif.log_odds()
        return out

    def weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """`log_odds` as a tensor: (m, 4, w)."""
        return torch.from_numpy(self.log_odds).to(dtype)

    def letters(self, unknown: str = "skip", dtype: torch.dtype = torch.float32) -> Tensor:
        """What each token stands for in scores: shares of A, C, G and T, (rows, 4).

        A site with a token beyond the rows (a gap, `PAD`) has no score.

        Args:
            unknown: "skip" gives no score to a site with N or another ambiguous letter, as FIMO does; "zero"
                lets such a letter add nothing; "expected" lets it add the mean over the letters that it may
                be, weighted by the background.
            dtype: Of the result.

        Raises:
            MotifError: `unknown` is none of the three.
        """
        if unknown not in UNKNOWN:
            raise MotifError(f"unknown: expected one of {', '.join(UNKNOWN)}, received {unknown!r}")
        rows = np.eye(4)
        if unknown != "skip":
            share = dict(zip(DNA.letters, self.background, strict=True))
            codes = [
                meaning for meaning in DNA.meanings.values() if len(meaning) > 1
            ]  # in token order: N, R ...
            more = np.zeros((len(codes), 4))
            if unknown == "expected":
                for row, meaning in zip(more, codes, strict=True):
                    total = sum(share[letter] for letter in meaning)
                    for letter in meaning:
                        row[DNA.letters.index(letter)] = share[letter] / total
            rows = np.concatenate([rows, more])
        return torch.from_numpy(rows).to(dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {"motifs": self.motifs, "background": self.background}  # without the cached tables


def as_bank(given: Any, background: Any = None) -> MotifBank:
    """A bank as it is (unless another background is given), or made of motifs, or read from a file.

    A string with a dot or a slash is a path; any other one is a consensus.
    """
    if isinstance(given, MotifBank):
        return given if background is None else MotifBank(given.motifs, background)
    if isinstance(given, os.PathLike) or (isinstance(given, str) and set("./\\") & set(given)):
        return MotifBank.read(given, background=background)
    return MotifBank(given, background)


def _shown(background: tuple[float, ...]) -> str:
    return ", ".join(f"{share:.3g}" for share in background)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
