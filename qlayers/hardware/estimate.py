"""What a call would cost, before it is made."""

from dataclasses import dataclass
from decimal import Decimal

from qlayers.hardware.budget import Spent


@dataclass(frozen=True)
class Estimate:
    """A dry run; prints as a table.

    Attributes:
        tapes: how many were given.
        circuits: what the device makes of them, broadcast samples and commuting groups each on their own.
        distinct: circuits after deduplication.
        known: distinct circuits whose results are in the journal: they cost nothing.
        in_doubt: distinct circuits submitted by a run that ended before their results came.
        submissions: how many jobs the others are packed into.
        cost: circuits, shots and money of the others.
        left: what is left of each limit of the budget, before this call.
        seconds: how long it takes, from the average of jobs so far; None before the first.

    Example:
        >>> print(Estimate(2, 4, 3, 1, 0, 1, Spent(2, 200, Decimal("0.6")), {"circuits": 10}, None))
        tapes              2
        circuits           4
        distinct           3
        in the journal     1
        to be submitted    2
        submissions        1
        shots            200
        money            0.6
        left of circuits  10
    """

    tapes: int
    circuits: int
    distinct: int
    known: int
    in_doubt: int
    submissions: int
    cost: Spent
    left: dict[str, Decimal | int]
    seconds: float | None

    @property
    def fits(self) -> bool:
        """Whether the budget allows it."""
        return all(getattr(self.cost, name) <= max(amount, 0) for name, amount in self.left.items())

    def __str__(self) -> str:
        lines: dict[str, object] = {
            "tapes": self.tapes,
            "circuits": self.circuits,
            "distinct": self.distinct,
            "in the journal": self.known,
            **({"in doubt": self.in_doubt} if self.in_doubt else {}),
            "to be submitted": self.cost.circuits,
            "submissions": self.submissions,
            "shots": self.cost.shots,
            "money": self.cost.money,
            **({} if self.seconds is None else {"seconds": f"{self.seconds:.3g}"}),
            **{f"left of {name}": amount for name, amount in self.left.items()},
        }
        name_width, width = max(map(len, lines)), max(len(str(value)) for value in lines.values())
        return "\n".join(f"{name:<{name_width}} {value!s:>{width}}" for name, value in lines.items())
