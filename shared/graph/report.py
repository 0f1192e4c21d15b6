"""What an optimization did, what it left alone, and why: as data and as a table."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import UserError
from shared.graph.analysis import Analysis
from shared.graph.placing import Placement

if TYPE_CHECKING:
    from shared.graph.tuning import Tuning

WHOLE = "the whole model"
GAINS = {  # of an analysis, as a report shows them
    "operations": "operations",
    "flops": "FLOPs",
    "bytes": "bytes read and written",
    "peak": "bytes at once, at most, in evaluation",
    "kept": "bytes kept for backward",
    "training_peak": "bytes at once, at most, in a training step",
}


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
        placements: where each of its calls runs, and why; empty unless device, dtype or tune was given.
        tuning: what was timed and chosen; None unless tune was given.

    Example:
        >>> print(Report((Change("merge", "conv", "one_hot + conv1d", "token_conv1d"),), ()))
        changed (1)
          conv  one_hot + conv1d -> token_conv1d  [merge]
    """

    changes: tuple[Change, ...]
    refusals: tuple[Refusal, ...]
    before: Analysis | None = None
    after: Analysis | None = None
    placements: tuple[Placement, ...] = ()
    tuning: "Tuning | None" = None

    def __bool__(self) -> bool:
        return bool(self.changes)

    def svg(self, path: str | Path) -> None:
        """Draw the graphs before and after side by side, with what differs and the longest path marked.

        Args:
            path: of the file that is written.

        Raises:
            UserError: nothing was changed, matplotlib is not installed, or nothing can be written there.
        """
        from shared.graph.picture import draw

        if self.before is None or self.after is None:
            raise UserError(
                "svg: expected the report of a model that was changed, received one without changes; "
                "draw the model with shared.analyse(model, inputs).svg(path)"
            )
        draw(path, {"before": self.before, "after": self.after})

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON; analyses without their steps."""
        return {
            "changes": [asdict(each) for each in self.changes],
            "refusals": [asdict(each) for each in self.refusals],
            "before": _numbers(self.before),
            "after": _numbers(self.after),
            "placements": [asdict(each) for each in self.placements],
            "tuning": None if self.tuning is None else asdict(self.tuning),
        }

    def __str__(self) -> str:
        changed = [
            (each.place or WHOLE, f"{each.before} -> {each.after}", each.rule) for each in self.changes
        ]
        left = [(each.place or WHOLE, each.reason, each.rule) for each in self.refusals]
        parts = [*_section("changed", changed), *_section("left as it was", left)]
        if self.before is not None and self.after is not None:
            parts += _gain(self.before, self.after)
        parts += _placed(self.placements)
        parts += [str(self.tuning)] if self.tuning else []
        return "\n".join(parts) if parts else "nothing to change"


def place_of(*parts: str) -> str:
    """A path from its parts, of which some may be empty."""
    return ".".join(part for part in parts if part)


def _numbers(analysis: Analysis | None) -> dict[str, Any] | None:
    if analysis is None:
        return None
    return {
        **{number: getattr(analysis, number) for number in (*GAINS, "parameters", "critical")},
        "parts": [asdict(part) for part in analysis.parts],
    }


def _gain(before: Analysis, after: Analysis) -> list[str]:
    lines = [
        f"  {getattr(before, number):>15,} -> {getattr(after, number):>13,}  {name}"
        for number, name in GAINS.items()
        if getattr(before, number) is not None and getattr(after, number) is not None
    ]
    return ["one forward pass", *lines]


def _placed(placements: Sequence[Placement]) -> list[str]:
    rows = [(each.place, each.call, f"{each.dtype} on {each.device}", each.provider) for each in placements]
    wide = [max(len(row[i]) for row in rows) for i in range(4)] if rows else []
    lines = [
        "  " + "  ".join(f"{text:{size}}" for text, size in zip(row, wide, strict=True)) + f"  {each.reason}"
        for row, each in zip(rows, placements, strict=True)
    ]
    return [f"placed ({len(rows)})", *lines] if rows else []


def _section(title: str, rows: Iterable[tuple[str, str, str]]) -> list[str]:
    rows = list(rows)
    wide = max((len(place) for place, _, _ in rows), default=0)
    lines = [f"  {place:{wide}}  {text}  [{rule}]" for place, text, rule in rows]
    return [f"{title} ({len(rows)})", *lines] if rows else []
