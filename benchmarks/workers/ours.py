"""`qlayers.QuantumLayer`."""

from typing import Any

from circuit import circuit
from protocol import Step, serve
from torch_layer import step_of

from qlayers import QuantumLayer


def build(case: dict[str, Any]) -> Step:
    shapes = {"weights": (case["layers"], case["wires"], 3)}
    return step_of(QuantumLayer(circuit(case["wires"]), shapes), case)


serve(build)
