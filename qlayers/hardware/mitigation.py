"""What error mitigations have in common: they run more circuits, or others, and combine the results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from pennylane.tape import QuantumScript

from qlayers.hardware.budget import Spent
from qlayers.hardware.estimate import Estimate, Estimates


@runtime_checkable
class Runs(Protocol):
    """What a layer asks of a runner; a mitigation is one, on top of another."""

    def run(self, tapes: Sequence[QuantumScript]) -> list[Any]: ...

    def estimate(self, tapes: Sequence[QuantumScript]) -> Estimate: ...

    def estimates(self, calls: Sequence[Sequence[QuantumScript]]) -> list[Estimate]: ...

    def spent(self) -> Spent: ...


class Mitigation(Estimates, ABC):
    """Runs circuits through a runner, and is used in its place.

    Args:
        runner: a `Runner` or another mitigation.
    """

    def __init__(self, runner: Runs):
        self.runner = runner

    @abstractmethod
    def prepare(
        self, tapes: Sequence[QuantumScript]
    ) -> tuple[list[QuantumScript], Callable[[Sequence], list[Any]]]:
        """The circuits that are run for tapes, and what makes the tapes' results of theirs."""

    def run(self, tapes: Sequence[QuantumScript]) -> list[Any]:
        """Mitigated results of circuits, in their order; arguments and errors are those of `Runner.run`.

        Raises:
            UserError: a measurement cannot be mitigated.
        """
        circuits, combine = self.prepare(tapes)
        return combine(self.runner.run(circuits))

    def estimates(self, calls: Sequence[Sequence[QuantumScript]]) -> list[Estimate]:
        """What several calls of `run` would cost, one after the other."""
        return self.runner.estimates(self._planned(calls))

    def _planned(self, calls: Sequence[Sequence[QuantumScript]]) -> list[list[QuantumScript]]:
        """The circuits of several calls."""
        return [self.prepare(tapes)[0] for tapes in calls]

    def spent(self) -> Spent:
        """What the runs of the journal have spent so far."""
        return self.runner.spent()
