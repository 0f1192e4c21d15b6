"""One training step of a `torch.nn.Module`; for the workers that measure one."""

from collections.abc import Sequence
from typing import Any

import torch
from protocol import THREADS, Later, Step
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

torch.set_num_threads(THREADS)
_one = torch.ones(1, requires_grad=True)
torch.autograd.grad(_one * 2, _one, torch.ones(1))  # for which PyTorch loads modules: 0.3 s


def step_of(layer: nn.Module, case: dict[str, Any], order: Sequence[int] | None = None) -> Step:
    """Forward, and backward with respect to inputs and weights, in float32.

    The entries of all parameters together, in their order, are the weights; or entry i is weight `order[i]`.
    """
    order = range(len(case["weights"])) if order is None else order
    parameters = list(layer.parameters())
    with torch.no_grad():
        vector_to_parameters(torch.tensor([case["weights"][k] for k in order]), parameters)
    inputs = torch.tensor(case["inputs"], dtype=torch.float32)
    if case["cotangent"] is None:

        def forward() -> dict[str, Any]:
            with torch.no_grad():
                return {"outputs": layer(inputs)}

        return forward
    leaves = [inputs.requires_grad_(), *parameters] if case["features"] else parameters
    cotangent = torch.tensor(case["cotangent"])

    def step() -> dict[str, Any]:
        outputs = layer(inputs)
        gradients = torch.autograd.grad(outputs, leaves, cotangent.view_as(outputs))
        found = {"inputs": gradients[0]} if case["features"] else {}
        weights = gradients[len(found) :]
        return {"outputs": outputs, **found, "weights": Later(lambda: _ordered(weights, order))}

    return step


def _ordered(gradients: Sequence[Tensor], order: Sequence[int]) -> list[float]:
    vector = parameters_to_vector(gradients)
    return torch.empty_like(vector).index_copy(0, torch.tensor(list(order)), vector).tolist()
