"""`pyqtorch.QuantumCircuit`, differentiated by autograd."""

from typing import Any

import pyqtorch as pyq
import torch
from protocol import Step, Worker, serve
from torch_layer import step_of


class Layer(torch.nn.Module):
    """The case as a module; parameters are handed to pyqtorch by name."""

    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__()
        self.wires, self.features = case["wires"], case["features"]
        self.weights = torch.nn.Parameter(torch.zeros(len(case["weights"])))
        gates = [found for gate in case["gates"] for found in _gates(*gate)]
        self.circuit = pyq.QuantumCircuit(case["wires"], gates).to(torch.complex64)
        self.observables = [_observable(terms).to(torch.complex64) for terms in case["observables"]]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = {f"w{k}": value for k, value in enumerate(self.weights.unbind())}
        values |= {f"x{i}": inputs[:, i] for i in range(self.features)}
        state = pyq.zero_state(self.wires, batch_size=len(inputs), dtype=torch.complex64)
        state = self.circuit.run(state, values)
        return torch.stack([observable.expectation(state) for observable in self.observables], -1)


def _gates(name: str, wires: list[int], angles: list) -> list[torch.nn.Module]:
    names = [f"{source}{index}" for source, index in angles]
    if name == "RZZ":  # pyqtorch has none
        return [pyq.CNOT(*wires), pyq.RZ(wires[1], names[0]), pyq.CNOT(*wires)]
    return [getattr(pyq, {"ROT": "U"}.get(name, name))(*wires, *names)]


def _observable(terms: list) -> pyq.Observable:
    words = [(factor, [getattr(pyq, letter)(wire) for letter, wire in word]) for factor, word in terms]
    parts = [(factor, word[0] if len(word) == 1 else pyq.Sequence(word)) for factor, word in words]
    return pyq.Observable(
        [part if factor == 1.0 else pyq.Scale(part, torch.tensor(factor)) for factor, part in parts]
    )


def build(case: dict[str, Any]) -> Step:
    return step_of(Layer(case), case)


serve(Worker(build))
