"""What a run may spend: limits on circuits, shots and money, and what has been spent of them."""

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import NamedTuple

from qlayers.hardware.errors import BudgetExceeded
from shared.errors import UserError


class Spent(NamedTuple):
    """Circuits, shots and money; money is exact, in whatever currency the prices are in.

    >>> Spent(1, 100, Decimal("0.35")) + Spent(2, 50, Decimal(0))
    Spent(circuits=3, shots=150, money=Decimal('0.35'))
    """

    circuits: int = 0
    shots: int = 0
    money: Decimal = Decimal(0)

    def __add__(self, other: "Spent") -> "Spent":  # type: ignore[override]  # of tuples it would join them
        return Spent(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of everything that a journal's runs submit together, and the prices.

    Whatever was submitted counts, also where an error came back, unless it is certain that the device never
    received it: a budget may end early, but is never exceeded.

    Attributes:
        circuits: the most circuits, or None for any number. Each execution counts, so does each repetition.
        shots: the most shots in total, or None.
        money: the most money, or None.
        price_per_circuit, price_per_shot, price_per_job: what a circuit, each of its shots, and each
            submission cost. Floats are taken as they print: 0.1 is a tenth.

    Raises:
        UserError: a limit or price is negative.

    Example:
        >>> budget = Budget(money=1, price_per_circuit=0.3, price_per_shot=0.00035)
        >>> budget.cost(circuits=2, shots=200)
        Spent(circuits=2, shots=200, money=Decimal('0.67000'))
        >>> budget.check(spent=budget.cost(2, 200), wanted=budget.cost(2, 200))
        Traceback (most recent call last):
        qlayers.hardware.errors.BudgetExceeded: Budget: 2 circuits with 200 shots would cost ...
    """

    circuits: int | None = None
    shots: int | None = None
    money: Decimal | float | None = None
    price_per_circuit: Decimal | float = 0
    price_per_shot: Decimal | float = 0
    price_per_job: Decimal | float = 0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not value >= 0:
                raise UserError(
                    f"Budget: expected {field.name} to be 0 or more, received {value}; "
                    "leave it out where there is none."
                )

    def cost(self, circuits: int, shots: int, jobs: int = 1) -> Spent:
        """What circuits with that many shots in total cost in so many submissions."""
        prices = (self.price_per_circuit, self.price_per_shot, self.price_per_job)
        amounts = (circuits, shots, jobs)
        money = sum((exact(p) * n for p, n in zip(prices, amounts, strict=True)), Decimal(0))
        return Spent(circuits, shots, money)

    def left(self, spent: Spent) -> dict[str, Decimal | int]:
        """What is left of each limit that was set."""
        limits = {name: getattr(self, name) for name in Spent._fields}
        return {n: exact(limit) - getattr(spent, n) for n, limit in limits.items() if limit is not None}

    def check(self, spent: Spent, wanted: Spent) -> None:
        """See that `wanted` can be spent on top of `spent`.

        Raises:
            BudgetExceeded: some limit would be exceeded.
        """
        left = self.left(spent)
        # what costs nothing is always allowed, also when a limit was lowered below what is spent
        short = [name for name, amount in left.items() if getattr(wanted, name) > max(amount, 0)]
        if short:
            raise BudgetExceeded(
                f"Budget: {wanted.circuits} circuits with {wanted.shots} shots would cost {wanted.money}; "
                f"left are {', '.join(f'{max(left[n], 0)} of {getattr(self, n)} {n}' for n in short)}. "
                "Nothing of this was submitted; raise the budget's limit, or use fewer circuits or shots."
            )


def exact(amount: Decimal | float) -> Decimal:
    """A number as it prints, without the error of binary fractions."""
    return amount if isinstance(amount, Decimal) else Decimal(str(amount))
