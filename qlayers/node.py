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
    if not tables.affine:
        return None
    if torch.compiler.is_dynamo_compiling():
        from qlayers.passes.one_call import in_graph  # imports Dynamo

        return in_graph(tables, inputs, weights)
    tensors = (inputs, *weights)
    if not eager.is_plain(tensors):
        return None
    if not eager.records_gradient(tensors):
        return _evaluate(tables, inputs, weights, keep=False)[0]
    return _apply(tables, inputs, *weights)


def _evaluate(
    tables: "PlanTables", inputs: Tensor, weights: Sequence[Tensor], *, keep: bool
) -> tuple[Tensor, Tensor | None, "Launch | None"]:
    """The outputs, what was kept for backward, and the launch that did it."""
    shared, own = _numbers(inputs, weights)
    launch, kept = _launch(tables, pauli_expval, shared, own), None
    if launch is None:
        found = pauli_expval.run_kernel(*angles(inputs, weights, tables.angles), *tables.circuit)
    else:
        found, kept = launch.forward(shared, own, keep=keep)
    return (found if tables.matrix is None else tables.summed(found)), kept, launch


def _numbers(inputs: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What a launch makes angles of, contiguous: all weights in a row, in any shape, and the inputs."""
    if len(weights) == 1:
        shared = weights[0]
    elif weights:
        shared = torch.cat([weight.reshape(-1) for weight in weights])
    else:
        shared = inputs.new_empty(0)
    return (
        shared if shared.is_contiguous() else shared.contiguous(),
        inputs if inputs.is_contiguous() else inputs.contiguous(),
    )


def _launch(tables: "PlanTables", op: Any, shared: Tensor, own: Tensor) -> "Launch | None":
    """How our kernel runs the op for these numbers; None where another provider is chosen."""
    key = op.name, preference(op), len(op.kernels), own.shape, shared.numel()
    launch = tables.launches.get(key, tables)
    return _chosen(tables, key, op, shared, own) if launch is tables else launch


def _chosen(tables: "PlanTables", key: tuple, op: Any, shared: Tensor, own: Tensor) -> "Launch | None":
    """`_launch`, for the first time."""
    from qlayers.kernels.numba.code import Picked
    from qlayers.kernels.numba.launch import Launch, is_single

    _, words, wires = tables.circuit
    picked = [Picked(*rows) for rows in tables.schedule.affine(shared.numel(), own.shape[-1])]
    batch = own.shape[0]
    columns = shared.new_empty(len(picked[SHARED].index)), own.new_empty(batch, len(picked[BATCHED].index))
    grad = () if op is pauli_expval else (own.new_empty(batch, words.shape[0]),)
    provider, found = choose(op, (*columns, *tables.circuit, *grad)).provider, None
    if len(tables.launches) >= _MOST_LAUNCHES:
        tables.launches.clear()
    if provider in ("numba", "numba-single"):
        single = is_single(provider, wires, own.dtype)
        sizes = shared.numel(), batch, own.shape[-1]
        found = tables.launches.get((single, *sizes))  # forward and backward share what one of them keeps
        if found is None:
            found = Launch(*tables.circuit, *sizes, own.dtype, single=single, picked=(picked[0], picked[1]))
            tables.launches[single, *sizes] = found
    tables.launches[key] = found
    return found


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tables: "PlanTables", inputs: Tensor, *weights: Tensor) -> Tensor:
        values, kept, launch = _evaluate(tables, inputs, weights, keep=True)
        ctx.tables, ctx.launch = tables, launch
        ctx.save_for_backward(inputs, *weights, kept)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tables = ctx.tables
        inputs, *weights, kept = ctx.saved_tensors
        if tables.matrix is not None:
            grad = grad @ tables.matrix.mT  # (b, T)
        if not torch.is_grad_enabled() and eager.is_plain((grad,)):
            shared, own = _numbers(inputs, weights)
            launch = _launch(tables, pauli_expval_vjp, shared, own)
            if launch is not None:
                if not grad.is_contiguous():
                    grad = grad.contiguous()
                of_weights, of_inputs = launch.backward(
                    shared, own, grad, kept if launch is ctx.launch else None
                )
                return None, of_inputs, *_split(of_weights, weights)
        # other providers, and a derivative that is differentiated in turn, down to inputs and weights
        slopes = pauli_expval_vjp(*angles(inputs, weights, tables.angles), *tables.circuit, grad)
        of_inputs = scatter(slopes[BATCHED], inputs.shape[-1], *tables.finals[BATCHED])
        numbers = sum(weight.numel() for weight in weights)
        of_weights = scatter(slopes[SHARED], numbers + tables.constants, *tables.finals[SHARED])
        return None, of_inputs, *_split(of_weights[:numbers], weights)


def _split(row: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of the weights, from those of all their numbers."""
    if len(weights) < 2:
        return tuple([row if row.shape == weight.shape else row.view_as(weight) for weight in weights])
    parts = row.split([weight.numel() for weight in weights])
    return tuple([part.view_as(weight) for part, weight in zip(parts, weights, strict=True)])


_apply = eager.applier(_Pass)
