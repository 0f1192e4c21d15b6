"""One training step of a quantum layer that is a `torch.nn.Module`; for the workers that measure one."""

import os
from typing import Any

import torch
from protocol import Step
from torch import nn

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def step_of(layer: nn.Module, case: dict[str, Any]) -> Step:
    """Forward, and backward with respect to inputs and weights, in float32."""
    (weights,) = layer.parameters()
    with torch.no_grad():
        weights.copy_(torch.tensor(case["weights"]))
    inputs = torch.tensor(case["inputs"], requires_grad=True)
    cotangent = torch.tensor(case["cotangent"])

    def step() -> tuple[torch.Tensor, ...]:
        outputs = layer(inputs)
        return outputs, *torch.autograd.grad(outputs, (inputs, weights), cotangent)

    return step
