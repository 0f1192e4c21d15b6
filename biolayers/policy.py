"""What becomes of letters that are not plain ones, and how many there were."""

from dataclasses import KW_ONLY, dataclass, fields

from shared.errors import UserError

_CHOICES = {
    "ambiguous": ("keep", "unknown", "error"),
    "lower": ("upper", "mask", "error"),
    "gap": ("keep", "unknown", "error"),
    "ut": ("error", "convert"),
    "other": ("error", "unknown"),
}


@dataclass(frozen=True)
class Policy:
    """What becomes of the letters that are not plain ones; `Alphabet.counts` says how many there are.

    Args:
        ambiguous: Letters that stand for several, such as N or R: "keep" gives each its own token,
            "unknown" turns all of them into the unknown token (N, or X of proteins), "error" refuses them.
        lower: Lower-case (soft-masked) letters: "upper" reads them as their capitals, "mask" turns them
            into the unknown token, "error" refuses them.
        gap: The gap letter: "keep", "unknown" or "error".
        ut: U in DNA and T in RNA: "error" refuses them, "convert" reads U as T or T as U.
        other: Every byte that is no letter of the alphabet: "error" or "unknown".

    Example:
        >>> print(Policy(lower="mask", ut="convert"))
        lower=mask, ut=convert
    """

    _: KW_ONLY
    ambiguous: str = "keep"
    lower: str = "upper"
    gap: str = "keep"
    ut: str = "error"
    other: str = "error"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                expected = ", ".join(map(repr, choices))
                raise UserError(
                    f"Policy: expected {name} to be one of {expected}, received {getattr(self, name)!r}"
                )

    @classmethod
    def check_names(cls, names: list[str]) -> None:
        """Refuse what is no clause of a policy."""
        for name in names:
            if name not in _CHOICES:
                raise UserError(f"Policy: expected one of {', '.join(_CHOICES)}, received {name!r}")

    @property
    def uses_unknown(self) -> bool:
        """Whether some letters become the unknown token."""
        return "unknown" in (self.ambiguous, self.gap, self.other) or self.lower == "mask"

    def __str__(self) -> str:
        """Only what differs from the default, as `lower=mask, other=unknown`."""
        values = ((f.name, getattr(self, f.name), f.default) for f in fields(self))
        return ", ".join(f"{name}={value}" for name, value, default in values if value != default)


@dataclass(frozen=True)
class LetterCounts:
    """How many letters each clause of a `Policy` touched; a lower-case n is `lower` and `ambiguous`."""

    total: int = 0
    lower: int = 0
    ambiguous: int = 0
    gap: int = 0
    ut: int = 0
    other: int = 0

    def __add__(self, more: "LetterCounts") -> "LetterCounts":
        return LetterCounts(*(getattr(self, f.name) + getattr(more, f.name) for f in fields(self)))

    def __str__(self) -> str:
        special = [f"{getattr(self, f.name):,} {f.name}" for f in fields(self)[1:] if getattr(self, f.name)]
        return f"{self.total:,} letters" + (f" ({', '.join(special)})" if special else ", all plain")
