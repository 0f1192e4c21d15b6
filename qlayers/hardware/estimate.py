"""What a call would cost, before it is made."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import overload

from pennylane.tape import QuantumScript
from torch import Tensor, nn

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

    def __add__(self, other: "Estimate") -> "Estimate":
        """Of both, one after the other."""
        counts = (
            getattr(self, name) + getattr(other, name)
            for name in ("tapes", "circuits", "distinct", "known", "in_doubt", "submissions", "cost")
        )
        known = self.seconds is not None and other.seconds is not None
        return Estimate(*counts, self.left, self.seconds + other.seconds if known else None)

    def __str__(self) -> str:
        return _table(self.lines())

    def lines(self) -> dict[str, object]:
        """What is printed, by name."""
        return {
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


@dataclass(frozen=True)
class StepEstimate:
    """A dry run of a training step of a model; prints as a table.

    Attributes:
        forward: the forward pass alone.
        step: the forward and the backward pass.

    Example:
        >>> forward = Estimate(2, 2, 2, 0, 0, 1, Spent(2, 200), {"circuits": 10}, None)
        >>> backward = Estimate(8, 8, 8, 0, 0, 1, Spent(8, 800), {"circuits": 10}, None)
        >>> print(StepEstimate(forward, forward + backward))
                         forward step
        tapes                  2   10
        circuits               2   10
        distinct               2   10
        in the journal         0    0
        to be submitted        2   10
        submissions            1    2
        shots                200 1000
        money                  0    0
        left of circuits      10   10
    """

    forward: Estimate
    step: Estimate

    @property
    def fits(self) -> bool:
        """Whether the budget allows the step."""
        return self.step.fits

    def __str__(self) -> str:
        forward, step = self.forward.lines(), self.step.lines()
        names = list(dict.fromkeys((*forward, *step)))
        return _table({"": ("forward", "step"), **{n: (forward.get(n, 0), step.get(n, 0)) for n in names}})


class Estimates(ABC):
    """Says what calls would cost."""

    @abstractmethod
    def estimates(self, calls: Sequence[Sequence[QuantumScript]]) -> list[Estimate]:
        """What several calls of `run` would cost, one after the other."""

    @overload
    def estimate(self, tapes: Sequence[QuantumScript]) -> Estimate: ...

    @overload
    def estimate(self, tapes: nn.Module, batch: Tensor | int) -> StepEstimate: ...

    def estimate(self, tapes, batch=None):
        r"""What `run` or a training step of a model would cost now, without running anything.

        Args:
            tapes: circuits, as for `run`; or a model, a `QuantumLayer` or anything that contains some, which
                runs on this runner.
            batch: of a model: its inputs, which count as trained if they require a gradient; or, of a layer,
                a number of samples, all different.

        Returns:
            For circuits an `Estimate`. For a model a `StepEstimate`, of the forward pass alone and with the
            backward pass; samples for which the loss turns out to be flat cost less.

        Example:
            >>> import pennylane as qml
            >>> from qlayers.hardware import Budget, Runner
            >>> tape = qml.tape.QuantumScript([qml.RY([0.1, 0.2], 0)], [qml.probs(wires=0)])
            >>> runner = Runner(qml.device("default.qubit"), shots=100, budget=Budget(price_per_shot=0.01))
            >>> runner.estimate([tape]).cost
            Spent(circuits=2, shots=200, money=Decimal('2.00'))
            >>> from qlayers import Circuit, QuantumLayer
            >>> circuit = Circuit.parse("weights w()\nRX(w*x0) 0\nexpval Z(0)")
            >>> estimate = runner.estimate(QuantumLayer(circuit, runner=runner), 5)
            >>> estimate.forward.cost.circuits, estimate.step.cost.circuits, estimate.step.submissions
            (5, 15, 2)
        """
        if isinstance(tapes, nn.Module):
            from qlayers.hardware.planning import step_estimate

            return step_estimate(self, tapes, batch)
        return self.estimates([tapes])[0]


def _table(lines: Mapping[str, object]) -> str:
    """Names on the left, and one or more columns on the right."""
    rows = [[name, *(value if isinstance(value, tuple) else (value,))] for name, value in lines.items()]
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        " ".join(
            [f"{row[0]:<{widths[0]}}", *(f"{c!s:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )
