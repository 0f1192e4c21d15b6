"""The motif: how often each base was seen at each position of a site."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from biolayers.alphabet import DNA
from biolayers.motifs.errors import MotifError

if TYPE_CHECKING:
    from Bio.motifs import Motif as BiopythonMotif
    from matplotlib.axes import Axes

SITES = 20  # how many sites a consensus or a matrix of probabilities stands for; MEME's own default
PSEUDOCOUNT = 0.1  # FIMO's
RESOLUTION = 1 / 256  # bits: the grid of log-odds; a power of two, so that sums of scores are exact
WIDEST = 255
_UNIFORM = (0.25,) * 4

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Motif:
    """A DNA motif: prints, compares, hashes and pickles; `Motif("TATAWAW")` reads IUPAC letters.

    Args:
        counts: A consensus of IUPAC letters, which counts as 20 sites, or how often A, C, G and T (rows) were
            seen at each position: an array-like (4, w) of numbers from 0 on, w from 1 to 255.
        name: Its name.
        pseudocount: What is added to the counts of each position, divided up like the background.
        background: The share of A, C, G and T in the sequences: 4 positive numbers, or a mapping from
            letters; they are divided by their sum.

    Raises:
        MotifError: An argument has another shape or range, or a letter has no meaning.

    Example:
        >>> motif = Motif("TATAWAW", name="TATA box")
        >>> motif
        Motif('TATAWAW', name='TATA box')
        >>> str(motif.reverse_complement()), len(motif), round(float(motif.information().sum()), 1)
        ('WTWTATA', 7, 11.7)
    """

    counts: Any  # becomes rows of numbers: tuples hash and compare
    name: str = ""
    pseudocount: float = PSEUDOCOUNT
    background: Any = _UNIFORM

    def __post_init__(self) -> None:
        rows = (
            _of_consensus(self.counts) if isinstance(self.counts, str) else _of_array(self.counts, self.name)
        )
        object.__setattr__(self, "counts", rows)
        object.__setattr__(self, "background", background_of(self.background))
        if not (math.isfinite(self.pseudocount) and self.pseudocount >= 0):
            raise MotifError(
                f"{self._label}: expected a pseudocount from 0 on, received {self.pseudocount!r}"
            )
        if self.pseudocount == 0 and any(sum(column) == 0 for column in zip(*rows, strict=True)):
            raise MotifError(
                f"{self._label}: expected counts in every position, or a pseudocount above 0; one has none"
            )

    @classmethod
    def from_probabilities(cls, probabilities: Any, *, sites: float = SITES, **fields: Any) -> "Motif":
        """The motif of `sites` sites with these shares of A, C, G, T (rows), (4, w); `fields` as of `Motif`.

        Raises:
            MotifError: The shares of a position do not add up to 1 (within 1 %).
        """
        shares = np.asarray(probabilities, np.float64)
        name = fields.get("name", "")
        if shares.ndim == 2 and not np.allclose(shares.sum(0), 1, atol=0.01):
            position = int(np.abs(shares.sum(0) - 1).argmax())
            raise MotifError(
                f"Motif{f' {name}' if name else ''}: expected probabilities that add up to 1, received "
                f"the sum {shares.sum(0)[position]:g} at position {position + 1}; give counts to Motif itself"
            )
        return cls(shares * sites, **fields)

    @classmethod
    def from_biopython(cls, motif: "BiopythonMotif", **fields: Any) -> "Motif":
        """The same motif from a `Bio.motifs.Motif`; its pseudocounts, a sum over letters, are kept.

        Raises:
            MotifError: It is no DNA or RNA motif.
        """
        letters = "".join(motif.alphabet)
        if sorted(letters) not in (sorted("ACGT"), sorted("ACGU")):
            raise MotifError(f"Motif {motif.name}: expected the letters ACGT or ACGU, received {letters}")
        order = "ACGU" if "U" in letters else "ACGT"
        rows = [list(motif.counts[letter]) for letter in order]
        given = {
            "name": _name_of(motif),
            "background": [motif.background[letter] for letter in order],
            **_pseudocount_of(motif),
        }
        return cls(rows, **(given | fields))

    def to_biopython(self) -> "BiopythonMotif":
        """The same motif as a `Bio.motifs.Motif`, with its background and pseudocounts."""
        from Bio import motifs

        made = motifs.Motif(alphabet="ACGT", counts=dict(zip("ACGT", map(list, self.counts), strict=True)))
        made.name = self.name
        made.background = dict(zip("ACGT", self.background, strict=True))
        made.pseudocounts = {
            letter: self.pseudocount * share for letter, share in zip("ACGT", self.background, strict=True)
        }
        return made

    # -- what it prints

    def __len__(self) -> int:
        """How many positions it has."""
        return len(self.counts[0])

    def __str__(self) -> str:
        """The consensus."""
        return self.consensus

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        if self.counts == _of_consensus(self.consensus):
            return f"Motif({self.consensus!r}{name})"
        bits = self.information().sum()
        return f"<Motif {self.name or 'without a name'}: {self.consensus}, {bits:.1f} bits>"

    @property
    def _label(self) -> str:
        return f"Motif {self.name}" if self.name else "Motif"

    @property
    def consensus(self) -> str:
        """The most frequent letters in IUPAC codes, by the rules of Cavener (1987)."""
        return str(self.to_biopython().counts.degenerate_consensus)

    # -- what it says

    def probabilities(self) -> np.ndarray:
        """The share of each base at each position, pseudocount included: (4, w) float64."""
        counts = np.array(self.counts) + self.pseudocount * np.array(self.background)[:, None]
        return counts / counts.sum(0)

    def log_odds(self, *, resolution: float = RESOLUTION) -> np.ndarray:
        """log2 of the probabilities over the background, in bits, on a grid: (4, w) float64.

        On the grid the score of a site is exact, and so is its p-value. Rounding moves a score by at most
        `resolution` / 2 for each position; 0 switches it off.

        Raises:
            MotifError: A probability is 0, which has no logarithm.
        """
        shares = self.probabilities()
        if (shares == 0).any():
            base, position = np.argwhere(shares == 0)[0]
            raise MotifError(
                f"{self._label}: expected probabilities above 0, received 0 for {'ACGT'[base]} at position "
                f"{position + 1}; give it a pseudocount"
            )
        bits = np.log2(shares / np.array(self.background)[:, None])
        return np.round(bits / resolution) * resolution if resolution else bits

    def information(self) -> np.ndarray:
        """The information content of each position, relative to the background, in bits: (w,) float64."""
        shares = self.probabilities()
        ratio = np.where(shares > 0, shares, 1) / np.array(self.background)[:, None]
        return (shares * np.log2(np.where(shares > 0, ratio, 1))).sum(0)

    def reverse_complement(self) -> "Motif":
        """The motif as it reads on the other strand; the background is complemented too."""
        rows = tuple(row[::-1] for row in self.counts[::-1])
        return replace(self, counts=rows, background=self.background[::-1])

    def with_background(self, background: Any) -> "Motif":
        """The same counts against another background."""
        return replace(self, background=background)

    def trimmed(self, *, bits: float = 0.3) -> "Motif":
        """Without the positions at both ends that say less than `bits`.

        Raises:
            MotifError: No position says as much.
        """
        telling = np.flatnonzero(self.information() >= bits)
        if not len(telling):
            raise MotifError(f"{self._label}: no position has {bits:g} bits; ask for fewer")
        return replace(self, counts=tuple(row[telling[0] : telling[-1] + 1] for row in self.counts))

    def logo(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the information logo (Schneider & Stephens 1990) with logomaker; returns the axes."""
        from biolayers.motifs.logo import draw

        return draw(self.probabilities() * self.information(), ax=ax, title=self.name)


def background_of(given: Any) -> tuple[float, ...]:
    """Shares of A, C, G and T that add up to 1, from numbers or a mapping.

    Raises:
        MotifError: They are not four positive numbers.

    Example:
        >>> background_of({"A": 3, "C": 2, "G": 2, "T": 3})
        (0.3, 0.2, 0.2, 0.3)
    """
    values = [given.get(letter) for letter in "ACGT"] if isinstance(given, Mapping) else given
    try:
        shares = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        shares = np.zeros(0)
    if shares.shape != (4,) or not np.isfinite(shares).all() or (shares <= 0).any():
        raise MotifError(f"background: expected 4 positive numbers for A, C, G and T, received {given!r}")
    if abs(shares.sum() - 1) > 1e-12:
        shares = shares / shares.sum()
    return tuple(shares.tolist())


def _of_array(given: Any, name: str) -> Rows:
    label = f"Motif {name}" if name else "Motif"
    try:
        counts = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise MotifError(f"{label}: expected counts (4, w) as numbers, received {given!r}") from None
    if counts.ndim != 2 or counts.shape[0] != 4 or not 1 <= counts.shape[1] <= WIDEST:
        hint = "; transpose them" if counts.ndim == 2 and counts.shape[1] == 4 else ""
        raise MotifError(
            f"{label}: expected counts (4, w) with a row each for A, C, G and T, and w from 1 to {WIDEST}, "
            f"received {tuple(counts.shape)}{hint}"
        )
    if not np.isfinite(counts).all() or (counts < 0).any():
        row, position = np.argwhere(~(np.isfinite(counts) & (counts >= 0)))[0]
        raise MotifError(
            f"{label}: expected counts from 0 on, received {counts[row, position]:g} for {'ACGT'[row]} at "
            f"position {position + 1}"
        )
    return tuple(tuple(row) for row in counts.tolist())


def _of_consensus(text: str) -> Rows:
    if not 1 <= len(text) <= WIDEST:
        raise MotifError(f"Motif: expected a consensus of 1 to {WIDEST} letters, received {len(text)}")
    columns = []
    for position, letter in enumerate(text.upper().replace("U", "T"), 1):
        meaning = DNA.meanings.get(letter)
        if not meaning:
            raise MotifError(
                f"Motif: expected letters of {''.join(DNA.meanings)}, received {text[position - 1]!r} at "
                f"position {position}"
            )
        columns.append([SITES / len(meaning) if base in meaning else 0.0 for base in DNA.letters])
    return tuple(zip(*columns, strict=True))


def _name_of(motif: "BiopythonMotif") -> str:
    """The identifier and, where there is another one, the name: JASPAR and TRANSFAC have both."""
    if isinstance(motif, Mapping):  # TRANSFAC
        parts = [motif.get("ID") or motif.get("AC"), motif.get("NA")]
    else:
        parts = [getattr(motif, "matrix_id", None), motif.name]
    return " ".join(dict.fromkeys(part for part in parts if part))


def _pseudocount_of(motif: "BiopythonMotif") -> dict[str, float]:
    given: Mapping[str, float] = motif.pseudocounts
    total = sum(given.values())
    return {"pseudocount": total} if total else {}


def as_motifs(given: Any) -> Sequence[Motif]:
    """One motif, a consensus, a motif of Biopython, or several of them, as a list of motifs."""
    if isinstance(given, (Motif, str)) or (hasattr(given, "counts") and hasattr(given, "alphabet")):
        given = [given]
    made = []
    for each in given:
        if not isinstance(each, Motif):
            each = Motif.from_biopython(each) if hasattr(each, "counts") else Motif(each)
        made.append(each)
    return made
