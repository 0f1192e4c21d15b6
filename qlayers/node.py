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
from shared.dispatch import choose, preference

if TYPE_CHECKING:
    from qlayers.kernels.numba.launch import Launch
    from qlayers.plan import PlanTables

_MOST_LAUNCHES = 64  # batch sizes that are remembered


def run(tables: "PlanTables", inputs: Tensor, weights: Sequence[Tensor]) -> Tensor | None:
    """(b, outputs) as `PlanTables.run` computes them; None where the pass is not plain."""
    if torch.compiler.is_dynamo_compiling():
        return None
    tensors = (inputs, *weights)
    if not eager.is_plain(tensors):
        return None
    if not eager.records_gradient(tensors):
        return _evaluate(tables, *_angles(tables, inputs, weights), keep=False)[0]
    return _apply(tables, inputs, *weights) if tables.affine else None


def _angles(tables: "PlanTables", inputs: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The angles (Ks in all) that all samples share and those (b, Kb) of each sample, contiguous."""
    if tables.direct:
        shared, batched = weights[0], inputs
    else:
        shared, batched = angles(inputs, weights, tables.angles)
    return (
        shared if shared.is_contiguous() else shared.contiguous(),
        batched if batched.is_contiguous() else batched.contiguous(),
    )


def _evaluate(
    tables: "PlanTables", shared: Tensor, batched: Tensor, *, keep: bool
) -> tuple[Tensor, Tensor | None, "Launch | None"]:
    """The outputs, what was kept for backward, and the launch that did it."""
    launch, kept = _launch(tables, pauli_expval, shared, batched), None
    if launch is None:
        shared = shared.reshape(-1)
        found = pauli_expval.run_kernel(shared, batched, *tables.circuit)
    else:
        found, kept = launch.forward(shared, batched, keep=keep)
    return (found if tables.matrix is None else tables.combine(found, shared, batched)), kept, launch


def _launch(tables: "PlanTables", op: Any, shared: Tensor, batched: Tensor, *grad: Tensor) -> "Launch | None":
    """How our kernel runs the op on these angles; None where another provider is chosen."""
    key = op.name, preference(op), len(op.kernels), batched.shape[0], shared.numel()
    launch = tables.launches.get(key, tables)
    return _chosen(tables, key, op, shared, batched, *grad) if launch is tables else launch


def _chosen(
    tables: "PlanTables", key: tuple, op: Any, shared: Tensor, batched: Tensor, *grad: Tensor
) -> "Launch | None":
    """`_launch`, for the first time."""
    chosen = choose(op, (shared.reshape(-1), batched, *tables.circuit, *grad))
    found = None
    if chosen.provider in ("numba", "numba-single"):
        from qlayers.kernels.numba.launch import LAUNCHES

        found = LAUNCHES[chosen.provider](shared, batched, *tables.circuit)
    if len(tables.launches) >= _MOST_LAUNCHES:
        tables.launches.clear()
    tables.launches[key] = found
    return found


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tables: "PlanTables", inputs: Tensor, *weights: Tensor) -> Tensor:
        shared, batched = _angles(tables, inputs, weights)
        values, kept, launch = _evaluate(tables, shared, batched, keep=True)
        ctx.tables, ctx.launch = tables, launch
        made = (None, None) if tables.direct else (shared, batched)
        ctx.save_for_backward(inputs, *weights, kept, *made)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tables = ctx.tables
        inputs, *weights, kept, shared, batched = ctx.saved_tensors
        if tables.matrix is not None:
            grad = grad @ tables.matrix.mT  # (b, T)
        slopes = None
        if torch.is_grad_enabled():  # this derivative is differentiated in turn, down to inputs and weights
            shared, batched = angles(inputs, weights, tables.angles)
        elif tables.direct:
            shared, batched = _angles(tables, inputs, weights)
        if not torch.is_grad_enabled() and eager.is_plain((grad,)):
            slopes = _slopes(tables, shared, batched, grad, kept, ctx.launch)
        if slopes is None:
            slopes = pauli_expval_vjp(shared.reshape(-1), batched, *tables.circuit, grad)
        if tables.direct:
            of_weight = slopes[SHARED]
            return (
                None,
                slopes[BATCHED],
                of_weight if of_weight.dim() == weights[0].dim() else of_weight.view_as(weights[0]),
            )
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


def _slopes(
    tables: "PlanTables",
    shared: Tensor,
    batched: Tensor,
    grad: Tensor,
    kept: Tensor | None,
    keeper: "Launch | None",
) -> tuple[Tensor, Tensor]:
    """The gradients of the angles, in their shapes, by a kernel; `kept` serves the launch that kept it."""
    if not grad.is_contiguous():
        grad = grad.contiguous()
    launch = _launch(tables, pauli_expval_vjp, shared, batched, grad)
    if launch is None:
        return pauli_expval_vjp.run_kernel(shared.reshape(-1), batched, *tables.circuit, grad)
    return launch.backward(shared, batched, grad, kept if launch is keeper else None)


_apply = eager.applier(_Pass)
