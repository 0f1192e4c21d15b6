"""What error mitigations have in common: they run more circuits, or others, and combine the results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from pennylane.tape import QuantumScript

from qlayers.hardware.budget import Spent
from qlayers.hardware.estimate import Estimate


@runtime_checkable
class Runs(Protocol):
    """What a layer asks of a runner; a mitigation is one, on top of another."""

    def run(self, tapes: Sequence[QuantumScript]) -> list[Any]: ...

    def estimate(self, tapes: Sequence[QuantumScript]) -> Estimate: ...

    def spent(self) -> Spent: ...


class Mitigation(ABC):
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

    def estimate(self, tapes: Sequence[QuantumScript]) -> Estimate:
        """What `run` would cost now, without running anything."""
        return self.runner.estimate(self.prepare(tapes)[0])

    def spent(self) -> Spent:
        """What the runs of the journal have spent so far."""
        return self.runner.spent()
