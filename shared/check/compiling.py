"""Rows about `torch.compile`: one graph, right values and gradients, one compilation for all batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, func
from torch._dynamo.testing import CompileCounterWithBackend

from shared.check import row as when
from shared.check.case import Args, Case, gradients, same
from shared.check.report import Mismatch
from shared.check.row import Row
from shared.check.transforms import Problem

_SIZES = (3, 4, 7)  # of the batch; not 0 or 1, which the compiler always treats apart


def compiled(
    function: Callable[..., Any], *, backend: Any = "aot_eager", **options: Any
) -> Callable[..., Any]:
    """`function` compiled into one graph, with no memory of earlier compilations."""
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=backend, **options)


def forward(backend: str) -> Callable[[Case, Args], None]:
    """The compiled op returns what the reference returns."""

    def run(case: Case, args: Args) -> None:
        with torch.no_grad():
            same(
                compiled(_caller(case), backend=backend)(*args), case.expected(args), f"compiled by {backend}"
            )

    return run


def train(backend: str) -> Callable[[Case, Args], None]:
    """Gradients through the compiled op are the reference's."""

    def run(case: Case, args: Args) -> None:
        floating = case.floating(args)
        received = gradients(compiled(_caller(case), backend=backend), args, floating)
        same(received, gradients(case.op.reference, args, floating), f"gradients compiled by {backend}")

    return run


def dynamic(case: Case, args: Args) -> None:
    """One compilation serves every batch size, forward and in training."""
    training = when.differentiable(case) is None
    counter = CompileCounterWithBackend("aot_eager")
    call = compiled(_caller(case), backend=counter)
    for size in _SIZES:
        sized = case.of_size(args, size)
        floating = case.floating(sized)
        for i, axis in case.batched(sized):
            torch._dynamo.mark_dynamic(sized[i], axis)
        if training:
            leaves = {i: sized[i].requires_grad_() for i in floating}
            value = call(*sized)
            same(value, case.expected(sized), f"batch of {size}")
            found = torch.autograd.grad(
                _sum(value), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
            plain = tuple(a.detach() if isinstance(a, Tensor) else a for a in sized)
            wanted = [leaf.requires_grad_() for leaf in (plain[i] for i in floating)]
            reference = torch.autograd.grad(
                _sum(case.op.reference(*plain)), wanted, allow_unused=True, materialize_grads=True
            )
            same(found, reference, f"gradient for a batch of {size}")
        else:
            same(call(*sized), case.expected(sized), f"batch of {size}")
    if counter.frame_count != 1:
        raise Mismatch(f"expected one compilation for batches of {_SIZES}, received {counter.frame_count}")


def transform(name: str) -> Callable[[Case, Args], None]:
    """A compiled transform of the op equals the plain transform of the reference."""

    def run(case: Case, args: Args) -> None:
        op, reference = (Problem(f, args, case.floating(args)) for f in (case.op, case.op.reference))
        make = _TRANSFORMS[name]
        same(compiled(make(op))(*op.lanes), make(reference)(*op.lanes), f"compiled {name}")

    return run


_TRANSFORMS: dict[str, Callable[[Problem], Callable[..., Any]]] = {
    "func.grad": lambda p: lambda *v: func.grad(p.loss, p.every)(*(x[0] for x in v)),
    "func.vmap": lambda p: func.vmap(p.output),
    "func.vmap(grad)": lambda p: func.vmap(func.grad(p.loss, p.every)),
}


def _caller(case: Case) -> Callable[..., Any]:
    op = case.op

    def call(*args: Any) -> Any:
        return op(*args)

    return call


def _sum(output: Any) -> Tensor:
    outputs = output if isinstance(output, tuple) else (output,)
    return sum(torch.sin(o).sum() for o in outputs if o.requires_grad)  # type: ignore[return-value]


ROWS = (
    Row("compile", "forward", forward("aot_eager"), every_sample=True),
    Row("compile", "train", train("aot_eager"), (when.differentiable,)),
    Row("compile", "dynamic batch", dynamic, (when.batch,)),
    *(Row("compile", name, transform(name), (when.differentiable,)) for name in _TRANSFORMS),
    Row("compile", "inductor forward", forward("inductor"), (when.compiler,), slow=True),
    Row("compile", "inductor train", train("inductor"), (when.compiler, when.differentiable), slow=True),
)
