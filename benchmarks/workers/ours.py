"""`qlayers.QuantumLayer`, which also answers for its operations and its memory."""

from time import perf_counter
from typing import Any

from operations import useful_operations
from pennylane_circuit import circuit
from protocol import Step, Worker, fresh_memory, peak_memory, serve
from torch_layer import step_of

from qlayers import QuantumLayer


class Ours(Worker):
    """The worker of our layer, with two requests more."""

    def operations(self) -> dict[str, int]:
        """How many operations the prepared step is worth."""
        assert self.step is not None
        return {"operations": useful_operations(self.step)}

    def step_memory(self, case: dict[str, Any]) -> dict[str, Any]:
        """What the first step of a new layer adds to the memory that is held."""
        self.release()
        step = self.build(case)
        before, start = fresh_memory(), perf_counter()
        step()
        return {"memory": peak_memory() - before, "seconds": perf_counter() - start}


def build(case: dict[str, Any]) -> Step:
    shapes = {"weights": len(case["weights"])}
    return step_of(QuantumLayer(circuit(case), shapes, features=case["features"]), case)


serve(Ours(build))
