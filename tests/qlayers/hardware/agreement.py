"""A layer on a device beside the exact one."""

import torch
from torch.testing import assert_close

from qlayers import QuantumLayer


def pair(function, shapes, **options) -> tuple[QuantumLayer, QuantumLayer]:
    """The exact layer and one on a device, with equal weights, in double precision."""
    exact = QuantumLayer(function, shapes).double()
    layer = QuantumLayer(function, shapes, **options).double()
    layer.load_state_dict(exact.state_dict())
    return exact, layer


def assert_agree(exact: QuantumLayer, layer: QuantumLayer, x: torch.Tensor, tolerance: float = 1e-9) -> None:
    """Values, and the gradients of inputs and weights for any slope."""
    found = []
    for one in (exact, layer):
        given = x.clone().requires_grad_()
        out = one(given)
        slope = torch.linspace(-1.0, 2.0, out.numel(), dtype=torch.float64).reshape(out.shape)
        slope = torch.complex(slope, slope.flip(0)) if out.is_complex() else slope
        gradients = torch.autograd.grad(out, (given, *one.parameters()), slope, materialize_grads=True)
        found.append((out.detach(), *gradients))
    assert_close(found[1], found[0], atol=tolerance, rtol=0)
