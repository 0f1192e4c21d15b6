"""Rows about derivatives in eager mode: every provider's gradient is the reference's, to second order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from shared.check import row as when
from shared.check.case import Args, Case, gradients, is_inexact, loss, outputs_of, same
from shared.check.report import Mismatch
from shared.check.row import Row
from shared.check.transforms import Problem, dual_numbers


def equal_gradients(dtype: torch.dtype) -> Callable[[Case, Args], None]:
    """Every provider's gradient equals that of the reference."""

    def run(case: Case, args: Args) -> None:
        cast = case.cast(args, dtype)
        positions = case.floating(cast)
        expected = gradients(case.op.reference, case.cast(cast, torch.float64), positions)
        for provider, given in case.providers(cast):
            with case.op.prefer(provider):
                received = gradients(case.op, given, positions)
            same(received, expected, f"{provider}, gradient in {dtype}")
            for gradient, i in zip(received, positions, strict=True):
                if gradient.dtype != cast[i].dtype:
                    raise Mismatch(
                        f"{provider}: expected the gradient of {case.op.parameters[i]} in {cast[i].dtype}, "
                        f"received {gradient.dtype}"
                    )

    return run


def subsets(case: Case, args: Args) -> None:
    """Each subset of the arguments may require a gradient, and only those get one."""
    floating = case.floating(args)
    everything = dict(zip(floating, gradients(case.op.reference, args, floating), strict=True))
    for chosen in _some(floating):
        names = ", ".join(case.op.parameters[i] for i in chosen)
        leaves = [a.detach().requires_grad_(i in chosen) if is_inexact(a) else a for i, a in enumerate(args)]
        value = loss(case.op(*leaves))
        if value.requires_grad:
            value.backward()
        for i in floating:
            if i in chosen:
                found = torch.zeros_like(leaves[i]) if leaves[i].grad is None else leaves[i].grad
                same(found, everything[i], f"only {names} requires grad: gradient of {case.op.parameters[i]}")
            elif leaves[i].grad is not None:
                raise Mismatch(f"only {names} requires grad: expected none for {case.op.parameters[i]}")


def _some(positions: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The subsets of these arguments, without the empty one; of many arguments, small and large ones."""
    count = len(positions)
    sizes = range(1, count + 1) if count <= 4 else (1, count - 1, count)
    return chain.from_iterable(combinations(positions, size) for size in sizes)


def tangents(dtype: torch.dtype) -> Callable[[Case, Args], None]:
    """Each subset of the arguments may move; the tangents are the reference's."""

    def run(case: Case, args: Args) -> None:
        cast = case.cast(args, dtype)
        exact = case.cast(cast, torch.float64)
        floating = case.floating(cast)
        found, wanted = Problem(case.op, cast, floating), Problem(case.op.reference, exact, floating)
        for moving in _some(found.every):
            names = ", ".join(case.op.parameters[floating[i]] for i in moving)
            with torch.no_grad():
                same(
                    dual_numbers(found, found.values, moving),
                    dual_numbers(wanted, wanted.values, moving),
                    f"only {names} moves, {dtype}",
                )

    return run


def incoming(case: Case, args: Args) -> None:
    """The gradient that arrives may be expanded or transposed, and may miss for some outputs."""
    floating = case.floating(args)
    for provider, given in case.providers(args):
        with case.op.prefer(provider):
            for what, make in _INCOMING.items():
                found, wanted = (
                    _pulled(function, where, floating, make)
                    for function, where in ((case.op, given), (case.op.reference, args))
                )
                same(found, wanted, f"{provider}, incoming gradient {what}")


def _first_only(output: Tensor, index: int) -> Tensor | None:
    return torch.ones_like(output) if index == 0 else None


_INCOMING: dict[str, Callable[[Tensor, int], Tensor | None]] = {
    "expanded": lambda output, index: output.new_ones(()).expand_as(output),
    "transposed": lambda output, index: (
        torch.cos(output.detach().mT.contiguous()).mT if output.ndim > 1 else torch.cos(output.detach())
    ),
    "for the first output only": _first_only,
}


def _pulled(function: Any, args: Args, floating: list[int], make: Any) -> list[Tensor]:
    leaves = {i: args[i].detach().requires_grad_() for i in floating}
    outputs = [
        o for o in outputs_of(function(*(leaves.get(i, a) for i, a in enumerate(args)))) if o.requires_grad
    ]
    pairs = [(o, g) for i, o in enumerate(outputs) if (g := make(o, i)) is not None]
    return list(
        torch.autograd.grad(
            [o for o, _ in pairs],
            list(leaves.values()),
            [g for _, g in pairs],
            allow_unused=True,
            materialize_grads=True,
        )
    )


def numerical(check: Callable[..., bool], **options: Any) -> Callable[[Case, Args], None]:
    """PyTorch's finite-difference check of the op as it runs by default, in float64."""

    def run(case: Case, args: Args) -> None:
        floating = case.floating(args)
        leaves = [args[i].requires_grad_() for i in floating]

        def function(*values: Tensor) -> Any:
            filled = dict(zip(floating, values, strict=True))
            outputs = outputs_of(case.op(*(filled.get(i, a) for i, a in enumerate(args))))
            return tuple(o for o in outputs if o.requires_grad or o.is_floating_point())

        check(function, leaves, fast_mode=True, **options)

    return run


def repeated(case: Case, args: Args) -> None:
    """A graph that is kept gives the same gradient again, and accumulates."""
    floating = case.floating(args)
    leaves = {i: args[i].detach().requires_grad_() for i in floating}
    value = loss(case.op(*(leaves.get(i, a) for i, a in enumerate(args))))
    value.backward(retain_graph=True)
    first = [leaf.grad.clone() if leaf.grad is not None else None for leaf in leaves.values()]
    value.backward()
    doubled = [leaf.grad for leaf in leaves.values() if leaf.grad is not None]
    same(doubled, [2 * g for g in first if g is not None], "second backward over a retained graph")


def refuses(case: Case, args: Args) -> None:
    """A backward through an op without derivative is an error that names the op."""
    try:
        gradients(case.op, args, case.floating(args))
    except RuntimeError as error:
        if case.op.name not in str(error):
            raise Mismatch(f"expected an error that names {case.op.name}, received {error}") from error
        return
    raise Mismatch(f"expected a backward through {case.op.name} to raise, received gradients")


_needs = (when.differentiable,)
ROWS = (
    Row("derivatives", "float64", equal_gradients(torch.float64), _needs, every_sample=True),
    Row("derivatives", "float32", equal_gradients(torch.float32), _needs, every_sample=True),
    Row("derivatives", "requires_grad subsets", subsets, _needs, every_sample=True),
    Row("derivatives", "incoming layouts", incoming, _needs, every_sample=True),
    Row("derivatives", "gradcheck", numerical(gradcheck), _needs, every_sample=True),
    Row("derivatives", "gradcheck batched", numerical(gradcheck, check_batched_grad=True), _needs),
    Row(
        "derivatives",
        "gradcheck forward mode",
        numerical(gradcheck, check_forward_ad=True, check_backward_ad=False, check_undefined_grad=False),
        _needs,
    ),
    Row("derivatives", "tangents, float64", tangents(torch.float64), _needs, every_sample=True),
    Row("derivatives", "tangents, float32", tangents(torch.float32), _needs),
    Row("derivatives", "gradgradcheck", numerical(gradgradcheck), _needs, every_sample=True),
    Row(
        "derivatives",
        "gradgradcheck forward mode",
        numerical(
            gradgradcheck, check_fwd_over_rev=True, check_rev_over_rev=False, check_undefined_grad=False
        ),
        _needs,
    ),
    Row("derivatives", "retained graph", repeated, _needs),
    Row("derivatives", "no derivative", refuses, (when.without_derivative,)),
)
