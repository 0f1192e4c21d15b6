"""`deepquantum.QubitCircuit`: features as encoded data, each weight a parameter of its gate."""

from typing import Any

import deepquantum as dq
import torch
from protocol import Step, Worker, serve
from torch_layer import step_of

ROT = (1, 2, 0)  # up to a phase, RZ(c) RY(b) RZ(a) is U3(b, c, a)


class Layer(torch.nn.Module):
    """The case as a module; `order` says which weight each of its parameters is."""

    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__()
        self.circuit = dq.QubitCircuit(case["wires"], reupload=True)
        self.order: list[int] = []
        for name, wires, angles in case["gates"]:
            add = getattr(self.circuit, {"ROT": "u3"}.get(name, name.lower()))
            encode = {"encode": True} if angles and angles[0][0] == "x" else {}
            add(*wires if name == "CNOT" else [wires if len(wires) > 1 else wires[0]], **encode)
            found = [index for source, index in angles if source == "w"]
            self.order += [found[i] for i in ROT] if name == "ROT" else found
        for terms in case["observables"]:
            for _, word in terms:
                letters, wires = zip(*word, strict=True)
                self.circuit.observable(list(wires), "".join(letters).lower())
        self.factors = [torch.tensor([factor for factor, _ in terms]) for terms in case["observables"]]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.circuit(data=inputs)
        values = self.circuit.expectation()
        if values.shape[-1] == len(self.factors):
            return values
        parts = values.split([len(factors) for factors in self.factors], -1)
        return torch.stack([part @ by for part, by in zip(parts, self.factors, strict=True)], -1)


def build(case: dict[str, Any]) -> Step:
    layer = Layer(case)
    return step_of(layer, case, layer.order)


serve(Worker(build))
