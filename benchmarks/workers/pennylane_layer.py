"""`pennylane.qnn.TorchLayer`; options: device, diff_method, and complex64 if the device takes a c_dtype."""

from typing import Any

import numpy as np
import pennylane as qml
import torch
from pennylane_circuit import circuit
from protocol import Step, Worker, serve
from torch_layer import step_of


def build(case: dict[str, Any]) -> Step:
    single = {"c_dtype": np.complex64} if case.get("complex64") else {}
    device = qml.device(case["device"], wires=case["wires"], **single)
    method = case["diff_method"] if case["cotangent"] else None  # adjoint would take the Jacobian at once
    node = qml.QNode(circuit(case), device, interface="torch", diff_method=method)
    layer = qml.qnn.TorchLayer(node, {"weights": len(case["weights"])})
    unread = (
        {} if case["features"] else {"inputs": [[0.0]] * len(case["inputs"])}
    )  # TorchLayer wants a feature
    return step_of(layer.to(torch.float32), {**case, **unread})


serve(Worker(build))
