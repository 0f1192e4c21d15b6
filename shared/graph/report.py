"""What an optimization did, what it left alone, and why: as data and as a table."""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.graph.analysis import Analysis

WHOLE = "the whole model"


@dataclass(frozen=True)
class Change:
    """One rewrite.

    Args:
        rule: the name of the rule.
        place: the call or module at which it stands, such as `features.conv`; empty for the whole model.
        before: what stood there, such as `one_hot + conv1d + relu`.
        after: what stands there now.
    """

    rule: str
    place: str
    before: str
    after: str


@dataclass(frozen=True)
class Refusal:
    """A place that a rule looked at and left alone; `reason` says what it could not prove."""

    rule: str
    place: str
    reason: str


@dataclass(frozen=True)
class Report:
    """All changes and refusals of a call of `shared.optimize`; prints as a table.

    Args:
        changes: what was rewritten.
        refusals: what was looked at and left alone.
        before: what the model does on the example inputs, see `analyse`; None without changes.
        after: what the optimized model does.

    Example:
        >>> print(Report((Change("merge", "conv", "one_hot + conv1d", "token_conv1d"),), ()))
        changed (1)
          conv  one_hot + conv1d -> token_conv1d  [merge]
    """

    changes: tuple[Change, ...]
    refusals: tuple[Refusal, ...]
    before: Analysis | None = None
    after: Analysis | None = None

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        changed = [
            (each.place or WHOLE, f"{each.before} -> {each.after}", each.rule) for each in self.changes
        ]
        left = [(each.place or WHOLE, each.reason, each.rule) for each in self.refusals]
        parts = [*_section("changed", changed), *_section("left as it was", left)]
        if self.before is not None and self.after is not None:
            parts += _gain(self.before, self.after)
        return "\n".join(parts) if parts else "nothing to change"


def place_of(*parts: str) -> str:
    """A path from its parts, of which some may be empty."""
    return ".".join(part for part in parts if part)


def _gain(before: Analysis, after: Analysis) -> list[str]:
    numbers = ("operations", "flops", "bytes", "kept")
    names = ("operations", "FLOPs", "bytes read and written", "bytes kept for backward")
    lines = [
        f"  {getattr(before, number):>15,} -> {getattr(after, number):>13,}  {name}"
        for number, name in zip(numbers, names, strict=True)
    ]
    return ["one forward pass", *lines]


def _section(title: str, rows: Iterable[tuple[str, str, str]]) -> list[str]:
    rows = list(rows)
    wide = max((len(place) for place, _, _ in rows), default=0)
    lines = [f"  {place:{wide}}  {text}  [{rule}]" for place, text, rule in rows]
    return [f"{title} ({len(rows)})", *lines] if rows else []
