"""A pass in plain eager mode: beside PyTorch's dispatcher, and as one node of autograd.

A node costs some 8 us in a training step, and going through the dispatcher about as much, which is more than
the arithmetic of a small circuit. So where the angles are an affine map of weights and inputs, the pass is
one node: the map, the circuit and the sum of its outputs, all outside autograd, with a derivative that is
written out below in torch calls and ops, and so differentiates again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qlayers.evaluate import BATCHED, SHARED, angles, scatter
from qlayers.ops.pauli_expval import pauli_expval, pauli_expval_vjp
from shared import eager

if TYPE_CHECKING:
    from qlayers.plan import PlanTables


def run(tables: "PlanTables", inputs: Tensor, weights: Sequence[Tensor]) -> Tensor | None:
    """(b, outputs) as `PlanTables.run` computes them; None where the pass is not plain."""
    if torch.compiler.is_dynamo_compiling():
        return None
    tensors = (inputs, *weights)
    if not eager.is_plain(tensors):
        return None
    if not eager.records_gradient(tensors):
        return _evaluate(tables, *angles(inputs, weights, tables.angles))
    return _apply(tables, inputs, *weights) if tables.affine else None


def _evaluate(tables: "PlanTables", shared: Tensor, batched: Tensor) -> Tensor:
    values = pauli_expval.run_kernel(shared, batched, tables.rotations, tables.words, tables.wires)
    return tables.combine(values, shared, batched)


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tables: "PlanTables", inputs: Tensor, *weights: Tensor) -> Tensor:
        shared, batched = angles(inputs, weights, tables.angles)
        ctx.tables = tables
        ctx.save_for_backward(inputs, *weights, shared, batched)
        return _evaluate(tables, shared, batched)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tables = ctx.tables
        inputs, *weights, shared, batched = ctx.saved_tensors
        if torch.is_grad_enabled():  # this derivative is differentiated in turn, down to inputs and weights
            shared, batched = angles(inputs, weights, tables.angles)
        if tables.matrix is not None:
            grad = grad @ tables.matrix.mT  # (b, T)
        vjp = pauli_expval_vjp
        if not torch.is_grad_enabled() and eager.is_plain((shared, batched, grad)):
            vjp = vjp.run_kernel
        slopes = vjp(shared, batched, tables.rotations, tables.words, tables.wires, grad)
        _, of_inputs, *of_weights = ctx.needs_input_grad
        found: list[Tensor | None] = [None, None, *[None] * len(weights)]
        if of_inputs:
            found[1] = scatter(slopes[BATCHED], inputs.shape[-1], *tables.finals[BATCHED])
        if True in of_weights:
            sizes = [weight.numel() for weight in weights]
            slope = scatter(slopes[SHARED], sum(sizes) + tables.constants, *tables.finals[SHARED])
            parts = (slope,) if slope.numel() == sizes[0] else slope.split([*sizes, tables.constants])
            for i, need in enumerate(of_weights):
                if need:
                    found[2 + i] = parts[i].view_as(weights[i])
        return tuple(found)


_apply = eager.applier(_Pass)
