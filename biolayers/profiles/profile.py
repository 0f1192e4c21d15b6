"""A profile hidden Markov model as a value: probabilities, names and annotation."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from biolayers.alphabet import Alphabet
from biolayers.ops.hmm_paths import STEPS
from biolayers.profiles.errors import ProfileError

COLUMNS = ("map", "consensus", "rf", "mm", "cs")  # annotation of each node, in the order of HMMER's files


@dataclass(frozen=True, eq=False, repr=False)
class ProfileHMM:
    """A profile HMM as HMMER describes it: m nodes with a match, an insert and a delete state each.

    All probabilities are natural logarithms in float64; -inf stands for zero. Two profiles are equal if all
    of their contents are.

    Args:
        name: what it is called.
        alphabet: `DNA`, `RNA` or `PROTEIN`; K is the number of its plain letters.
        match: (m, K) emissions of the match states.
        insert: (m + 1, K) emissions of the insert states, from that before the first node on.
        transitions: (m + 1, 7) from the begin state and from each node: M to M, I, D; I to M, I; D to M, D.
        accession: a stable identifier; empty if there is none.
        description: one line; empty if there is none.
        composition: (K,) the average emissions of the match states, or None.
        annotation: by name ("map", "consensus", "rf", "mm", "cs") one entry per node.
        header: further lines of a file's header, each a tag and its text, as they stood there.

    Raises:
        ProfileError: a tensor or an annotation has another size than the model.

    Example:
        >>> from biolayers import DNA
        >>> from biolayers.profiles.profile import ProfileHMM
        >>> profile = ProfileHMM.from_alignment(["ACGT", "ACGT", "AC-T"], DNA, name="site")
        >>> profile
        ProfileHMM('site', 4 nodes, DNA, consensus 'acgt')
        >>> len(profile), profile == ProfileHMM.from_alignment(["ACGT", "ACGT", "AC-T"], DNA, name="site")
        (4, True)
    """

    name: str
    alphabet: Alphabet
    match: Tensor
    insert: Tensor
    transitions: Tensor
    accession: str = ""
    description: str = ""
    composition: Tensor | None = None
    annotation: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    header: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        nodes, letters = len(self.match), self.alphabet.channels
        shapes = {
            "match": (nodes, letters),
            "insert": (nodes + 1, letters),
            "transitions": (nodes + 1, len(STEPS)),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape or not nodes:
                raise ProfileError(
                    f"profile {self.name}: expected {name} {shape}, at least one node, {letters} letters, "
                    f"received {tuple(getattr(self, name).shape)}"
                )
        for name, column in self.annotation.items():
            if name not in COLUMNS or len(column) != nodes:
                raise ProfileError(
                    f"profile {self.name}: expected annotation of {', '.join(COLUMNS)} with {nodes} entries, "
                    f"received {name!r} with {len(column)}"
                )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "ProfileHMM":
        """Read the one profile of a HMMER3/f file (`read_profiles` reads several).

        Raises:
            ProfileError: the file has none or several, or is malformed: with its name and the line.
        """
        from biolayers.profiles.hmmer import read_profiles

        found = read_profiles(path)
        if len(found) != 1:
            raise ProfileError(f"{path}: expected one profile, received {len(found)}; use read_profiles")
        return found[0]

    @classmethod
    def from_alignment(cls, alignment: Any, alphabet: Alphabet, **options: Any) -> "ProfileHMM":
        """Estimate a profile from aligned sequences: see `biolayers.profiles.estimate.estimate`."""
        from biolayers.profiles.estimate import estimate

        return estimate(alignment, alphabet, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a HMMER3/f file, which HMMER and `read` take; probabilities have five decimals there."""
        from biolayers.profiles.hmmer import write_profiles

        write_profiles(path, [self])

    @property
    def consensus(self) -> str:
        """A letter per node: as annotated, else the likeliest one, in lower case if it is below one half."""
        if "consensus" in self.annotation:
            return "".join(self.annotation["consensus"])
        likeliest = self.match.exp().max(-1)
        letters = [self.alphabet.letters[i] for i in likeliest.indices.tolist()]
        strong = 0.9 if self.alphabet.channels == 4 else 0.5  # as HMMER does
        return "".join(
            c if p >= strong else c.lower() for c, p in zip(letters, likeliest.values.tolist(), strict=True)
        )

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self.match)

    def __repr__(self) -> str:
        shown = self.consensus if len(self) <= 40 else self.consensus[:37] + "..."
        also = f", {self.accession}" if self.accession else ""
        return f"ProfileHMM({self.name!r}{also}, {len(self)} nodes, {self.alphabet}, consensus {shown!r})"

    def _contents(self) -> tuple[Any, ...]:
        return (
            self.name,
            self.alphabet,
            self.accession,
            self.description,
            dict(self.annotation),
            self.header,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProfileHMM):
            return NotImplemented
        pairs = [
            (getattr(self, n), getattr(other, n)) for n in ("match", "insert", "transitions", "composition")
        ]
        return self._contents() == other._contents() and all(_equal(a, b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash((self.name, self.accession, len(self)))


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return (a is None) == (b is None) and (a is None or b is None or torch.equal(a, b))


def log(probabilities: Iterable[Any] | Tensor) -> Tensor:
    """Natural logarithms in float64."""
    return torch.as_tensor(probabilities, dtype=torch.float64).log()
