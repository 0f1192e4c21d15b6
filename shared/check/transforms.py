"""Rows about `torch.func` and forward mode, nested too: each transform of the op is that of its reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, func
from torch.autograd import forward_ad

from shared.check import row as when
from shared.check.case import Args, Case, is_inexact, loss, outputs_of, same
from shared.check.row import Row

_LANES = 3  # the length of a mapped axis


@dataclass(frozen=True)
class Problem:
    """A function (the op, or its reference) as a function of its floating arguments alone."""

    function: Callable[..., Any]
    args: Args
    positions: Sequence[int]

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The floating arguments."""
        return tuple(self.args[i] for i in self.positions)

    @property
    def lanes(self) -> tuple[Tensor, ...]:
        """The floating arguments, mapped: slightly different ones in each lane."""
        return tuple(lanes(value) for value in self.values)

    @property
    def tangents(self) -> tuple[Tensor, ...]:
        """A direction."""
        return tuple(torch.cos(3 * value + 1) for value in self.values)

    @property
    def every(self) -> tuple[int, ...]:
        """All argument numbers."""
        return tuple(range(len(self.positions)))

    def output(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The floating outputs."""
        filled = dict(zip(self.positions, values, strict=True))
        outputs = outputs_of(self.function(*(filled.get(i, a) for i, a in enumerate(self.args))))
        return tuple(o for o in outputs if is_inexact(o))

    def loss(self, *values: Tensor) -> Tensor:
        """A scalar of them."""
        return loss(self.output(*values))

    def mapped_loss(self, *lanes: Tensor) -> Tensor:
        """The sum of the scalars of many of them."""
        return func.vmap(self.loss)(*lanes).sum()

    def pushed(self, *values: Tensor) -> tuple[Tensor, ...]:
        """A Jacobian-vector product of them."""
        found: tuple[Any, ...] = func.jvp(self.output, values, self.tangents)
        return found[1]

    def pushed_loss(self, *values: Tensor) -> Tensor:
        """A scalar of a Jacobian-vector product."""
        return loss(self.pushed(*values))

    def pulled_back(self, *values: Tensor) -> Tensor:
        """A scalar of a vector-Jacobian product."""
        found: tuple[Any, ...] = func.vjp(self.output, *values)
        outputs, pull_back = found
        return loss(tuple(pull_back(tuple(torch.cos(o) for o in outputs))))


def lanes(value: Tensor) -> Tensor:
    """`_LANES` versions of a tensor along a new first axis: scaled if floating, else the same."""
    if not is_inexact(value):
        return torch.stack([value] * _LANES)
    return torch.stack([value * (1 + 0.05 * i) for i in range(_LANES)])


def dual_numbers(p: Problem, values: Sequence[Tensor], moving: Sequence[int]) -> list[Any]:
    """The floating outputs and their tangents, by dual numbers, where only some of the values move."""
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(v, t) if i in moving else v
            for i, (v, t) in enumerate(zip(values, p.tangents, strict=True))
        ]
        unpacked = [forward_ad.unpack_dual(o) for o in p.output(*duals)]
        return [(u.primal, torch.zeros_like(u.primal) if u.tangent is None else u.tangent) for u in unpacked]


def _gradient_of_tangents(p: Problem) -> Any:
    leaves = [value.detach().requires_grad_() for value in p.values]
    value = loss(tuple(tangent for _, tangent in dual_numbers(p, leaves, p.every)))
    if not value.requires_grad:  # the op is linear
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)


def _gradient_of_pushed(p: Problem) -> Any:
    """The gradient of `p.pushed_loss`, forward over reverse: mixed derivatives commute."""
    along = func.grad(loss)(p.pushed(*p.values))

    def pulled_back(*values: Tensor) -> Any:
        found: tuple[Any, ...] = func.vjp(p.output, *values)
        return found[1](along)

    slopes: tuple[Any, ...] = func.jvp(pulled_back, p.values, p.tangents)
    return slopes[1]


TRANSFORMS: dict[str, Callable[[Problem], Any]] = {
    "grad": lambda p: func.grad(p.loss, p.every)(*p.values),
    "vjp": lambda p: func.vjp(p.loss, *p.values)[1](torch.ones((), dtype=torch.float64)),
    "vmap(grad)": lambda p: func.vmap(func.grad(p.loss, p.every))(*p.lanes),
    "grad(vmap)": lambda p: func.grad(p.mapped_loss, p.every)(*p.lanes),
    "vmap(vmap)": lambda p: func.vmap(func.vmap(p.output))(*(lanes(v) for v in p.lanes)),
    "grad over vjp": lambda p: func.grad(p.pulled_back, p.every)(*p.values),
    "jacrev over jacrev": lambda p: func.jacrev(func.jacrev(p.loss, p.every), p.every)(*p.values),
    "jacfwd over jacrev": lambda p: func.jacfwd(func.jacrev(p.loss, p.every), p.every)(*p.values),
    "jacfwd over jacfwd": lambda p: func.jacfwd(func.jacfwd(p.loss, p.every), p.every)(*p.values),
    "jvp": lambda p: func.jvp(p.output, p.values, p.tangents),
    "vmap(jvp)": lambda p: func.vmap(lambda *v: func.jvp(p.output, v, p.tangents))(*p.lanes),
    "jvp(vmap)": lambda p: func.jvp(func.vmap(p.output), p.lanes, tuple(map(torch.cos, p.lanes))),
    "jvp over jvp": lambda p: func.jvp(p.pushed, p.values, p.tangents),
    "jvp over vjp": lambda p: func.jvp(p.pulled_back, p.values, p.tangents),
    "grad over jvp": lambda p: func.grad(p.pushed_loss, p.every)(*p.values),
    "jacrev over jacfwd": lambda p: func.jacrev(func.jacfwd(p.loss, p.every), p.every)(*p.values),
    "dual numbers": lambda p: dual_numbers(p, p.values, p.every),
    "gradient of dual numbers": _gradient_of_tangents,
}

# what to expect, in the order of modes in which PyTorch can also differentiate an eigendecomposition twice
_EXPECTED = {
    "grad over jvp": _gradient_of_pushed,
    "gradient of dual numbers": _gradient_of_pushed,
    "jacrev over jacfwd": TRANSFORMS["jacfwd over jacrev"],
}


def against_reference(name: str) -> Callable[[Case, Args], None]:
    """The transform of the op equals that of the reference."""
    transform = TRANSFORMS[name]

    def run(case: Case, args: Args) -> None:
        positions = case.floating(args)
        expected = _EXPECTED.get(name, transform)(Problem(case.op.reference, args, positions))
        same(transform(Problem(case.op, args, positions)), expected, "the transform against the reference's")

    return run


def mapped(count: int) -> Callable[[Case, Args], None]:
    """`vmap` over each choice of `count` tensor arguments, along the first or last axis, against a loop."""

    def run(case: Case, args: Args) -> None:
        for chosen in combinations(case.tensors(args), count):
            for last in (False, True):
                _against_loop(case, args, chosen, last)

    return run


def _against_loop(case: Case, args: Args, chosen: Sequence[int], last: bool) -> None:
    stacked = {i: lanes(args[i]) for i in chosen}
    expected = [
        outputs_of(case.op.reference(*(stacked[i][lane] if i in stacked else a for i, a in enumerate(args))))
        for lane in range(_LANES)
    ]
    if last:
        stacked = {i: x.movedim(0, -1).contiguous() for i, x in stacked.items()}
    dims = tuple((-1 if last else 0) if i in stacked else None for i in range(len(args)))
    given = tuple(stacked.get(i, a) for i, a in enumerate(args))
    names = " and ".join(case.op.parameters[i] for i in chosen)
    received = outputs_of(func.vmap(case.op, dims)(*given))
    same(
        received,
        tuple(map(torch.stack, zip(*expected, strict=True))),
        f"vmap over {names}, axis {dims[chosen[0]]}",
    )


def _pairs(case: Case) -> str | None:
    return None if len(case.tensors(case.typical)) > 1 else "the op takes one tensor"


_EXTRA = {name: (when.real,) for name in TRANSFORMS if name.startswith("jac")}

ROWS = (
    *(
        Row("func", name, against_reference(name), (when.differentiable, *_EXTRA.get(name, ())))
        for name in TRANSFORMS
    ),
    Row("func", "vmap of each argument", mapped(1), (when.tensors,), every_sample=True),
    Row("func", "vmap of pairs", mapped(2), (when.tensors, _pairs), every_sample=True),
)
