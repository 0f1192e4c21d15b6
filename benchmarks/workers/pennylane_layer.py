"""`pennylane.qnn.TorchLayer`; options: device, diff_method."""

from typing import Any

import pennylane as qml
import torch
from circuit import circuit
from protocol import Step, serve
from torch_layer import step_of


def build(case: dict[str, Any]) -> Step:
    device = qml.device(case["device"], wires=case["wires"])
    node = qml.QNode(circuit(case["wires"]), device, interface="torch", diff_method=case["diff_method"])
    layer = qml.qnn.TorchLayer(node, {"weights": (case["layers"], case["wires"], 3)})
    return step_of(layer.to(torch.float32), case)


serve(build)
