"""The op under test with its samples: everything that a row asks about them, and how results are compared."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from shared.check.report import Mismatch
from shared.declare import Op
from shared.dispatch import REFERENCE, Kernel

Args = tuple[Any, ...]

_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128, torch.float16: torch.complex32}
# (relative, absolute times the largest expected value)
_TOLERANCE = {
    torch.float64: (1e-8, 1e-10),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (5e-2, 5e-2),
    torch.float16: (5e-3, 5e-3),
}
_REAL = {dtype: real for real, dtype in _COMPLEX.items()}


@dataclass(frozen=True, eq=False)
class Case:
    """An op, its sample arguments (float64), and the axis of each argument that runs over the batch."""

    op: Op
    samples: tuple[Args, ...]
    batch_axes: Mapping[str, int] | None

    @functools.cached_property
    def typical(self) -> Args:
        """The smallest sample without empty tensors and with a batch of two or more, else the largest one."""
        full = [s for s in self.samples if all(t.numel() for t in tensors_of(s)) and self._batch_of(s) >= 2]
        return min(full, key=_elements) if full else max(self.samples, key=_elements)

    def _batch_of(self, args: Args) -> int:
        sizes = [args[i].shape[axis] for i, axis in self._batched(args)]
        return min(sizes, default=2)

    def tensors(self, args: Args) -> list[int]:
        """The positions of the tensor arguments."""
        return [i for i, a in enumerate(args) if isinstance(a, Tensor)]

    def floating(self, args: Args) -> list[int]:
        """The positions of the arguments that can need a gradient."""
        return [i for i in self.tensors(args) if is_inexact(args[i])]

    def output_is_floating(self) -> bool:
        """Whether some output can carry a gradient."""
        return any(is_inexact(o) for o in outputs_of(self.op.reference(*self.typical)))

    # variants of a sample

    def cast(self, args: Args, dtype: torch.dtype) -> Args:
        """Fresh arguments with the floating ones in `dtype` (complex ones in its complex kin)."""

        def one(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return copy.deepcopy(value)
            if value.is_complex():
                return value.detach().to(_COMPLEX.get(dtype, value.dtype), copy=True)
            return value.detach().to(dtype if value.is_floating_point() else value.dtype, copy=True)

        return tuple(map(one, args))

    def batched(self, args: Args) -> list[tuple[int, int]]:
        """The position and batch axis of each argument that carries the batch.

        Raises:
            Mismatch: the op did not say.
        """
        if self.batch_axes is None:
            raise Mismatch(
                f"expected to be told the batch axis, received none: declare the samples of {self.op.name} "
                'with .samples(batch_axes={"name of the argument": axis}), or batch_axes={} if it has none'
            )
        return self._batched(args)

    def _batched(self, args: Args) -> list[tuple[int, int]]:
        axes = self.batch_axes or {}
        return [
            (i, axes[name])
            for i, name in enumerate(self.op.parameters)
            if name in axes and args[i] is not None
        ]

    def batch_of(self, args: Args, rows: Sequence[int]) -> Args:
        """The arguments with these rows of the batch (row numbers wrap around)."""
        args = self.cast(args, torch.float64)
        taken = list(args)
        for i, axis in self.batched(args):
            size = args[i].shape[axis]
            index = torch.tensor([row % size for row in rows], dtype=torch.int64)
            taken[i] = args[i].index_select(axis, index)
        return tuple(taken)

    def of_size(self, args: Args, size: int) -> Args:
        """The arguments with a batch of this size, by repeating or dropping rows."""
        return self.batch_of(args, range(size))

    # providers

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels that this machine can run."""
        return [
            kernel
            for kernel in self.op.kernels
            if kernel.missing is None and (kernel.device != "cuda" or torch.cuda.is_available())
        ]

    def providers(self, args: Args, *, reference: bool = True) -> list[tuple[str, Args]]:
        """Each provider that takes these arguments, with the arguments on its device."""
        found: dict[str, Args] = {}
        for kernel in self.kernels:
            moved = self.to(args, kernel.device or "cpu")
            with self.op.prefer(kernel.provider):
                if self.op.explain(*moved).chosen == kernel.provider:
                    found.setdefault(kernel.provider, moved)
        if reference:
            found[REFERENCE] = args
        return list(found.items())

    def to(self, args: Args, device: str) -> Args:
        """Fresh arguments on `device`, strides kept where it is the same."""
        return tuple(a.to(device) if isinstance(a, Tensor) and a.device.type != device else a for a in args)

    def dtypes(self) -> tuple[torch.dtype, ...]:
        """float64, float32, and whatever else a kernel names."""
        named = {dtype for kernel in self.kernels for dtype in kernel.dtypes or ()}
        return (torch.float64, torch.float32, *sorted(named & {torch.bfloat16, torch.float16}, key=str))

    # the oracle

    def expected(self, args: Args) -> Any:
        """The reference's value in float64, for arguments of any dtype."""
        with torch.no_grad():
            return self.op.reference(*self.to(self.cast(args, torch.float64), "cpu"))

    def expected_dtypes(self, args: Args) -> list[torch.dtype]:
        """The dtypes that the reference returns for arguments of these dtypes."""
        with torch.no_grad():
            return [o.dtype for o in outputs_of(self.op.reference(*args))]


def is_inexact(value: Any) -> bool:
    """Whether `value` is a floating or complex tensor."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def tensors_of(args: Sequence[Any]) -> list[Tensor]:
    """The tensors among arguments."""
    return [a for a in args if isinstance(a, Tensor)]


def outputs_of(output: Any) -> tuple[Tensor, ...]:
    """An op's outputs, one or several, as a tuple."""
    return output if isinstance(output, tuple) else (output,)


def _elements(args: Args) -> int:
    return sum(t.numel() for t in tensors_of(args))


# losses and gradients


def loss(output: Any) -> Tensor:
    """A scalar of an op's outputs with every derivative alive, and a different slope at each element."""
    parts = [o for o in outputs_of(output) if is_inexact(o)]
    return sum(torch.sin(torch.view_as_real(p) if p.is_complex() else p).sum() for p in parts)  # type: ignore[return-value]


def gradients(function: Callable[..., Any], args: Args, positions: Sequence[int]) -> list[Tensor]:
    """The gradients of `loss(function(*args))` with respect to the arguments at `positions`, layouts kept."""
    leaves = {i: args[i].detach().requires_grad_() for i in positions}
    value = loss(function(*(leaves.get(i, a) for i, a in enumerate(args))))
    return list(torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True))


# comparing


def same(received: Any, expected: Any, what: str, *, exact: bool = False) -> None:
    """Compare nested tensors by value, to the tolerance of the dtype received; `exact`: bit for bit.

    Raises:
        Mismatch: with the worst element, expected and received.
    """
    left, right = pytree.tree_leaves(received), pytree.tree_leaves(expected)
    if len(left) != len(right):
        raise Mismatch(f"{what}: expected {len(right)} tensors, received {len(left)}")
    for index, (got, want) in enumerate(zip(left, right, strict=True)):
        _same_tensor(got, want, what if len(left) == 1 else f"{what}, tensor {index}", exact)


def _same_tensor(got: Tensor, want: Tensor, what: str, exact: bool) -> None:
    if got.shape != want.shape:
        raise Mismatch(f"{what}: expected shape {tuple(want.shape)}, received {tuple(got.shape)}")
    got, want = got.detach().cpu().resolve_conj(), want.detach().cpu().resolve_conj()
    if got.dtype in (torch.float32, torch.bfloat16, torch.float16) and exact and got.dtype != want.dtype:
        raise Mismatch(f"{what}: expected {want.dtype}, received {got.dtype}")
    relative, absolute = _TOLERANCE.get(_REAL.get(got.dtype, got.dtype), (0.0, 0.0))
    wide = torch.complex128 if got.is_complex() else torch.float64
    a, b = got.to(wide), want.to(wide)
    scale = float(b.abs().nan_to_num(0.0, 0.0, 0.0).max()) if b.numel() else 0.0
    limit = torch.zeros_like(b.abs()) if exact else relative * b.abs() + absolute * max(1.0, scale)
    wrong = ~((a == b) | ((a - b).abs() <= limit) | (a.isnan() & b.isnan()))
    if wrong.any():
        where = tuple(wrong.nonzero()[0].tolist())
        raise Mismatch(
            f"{what}: expected {b[where].item():.10g} at {list(where)}, received {a[where].item():.10g} "
            f"({int(wrong.sum())} of {wrong.numel()} elements differ, {got.dtype})"
        )


def same_dtypes(received: Any, expected: Sequence[torch.dtype], what: str) -> None:
    """Compare the dtypes of outputs."""
    got = [o.dtype for o in outputs_of(received)]
    if got != list(expected):
        raise Mismatch(f"{what}: expected dtype {_list(expected)}, received {_list(got)}")


def _list(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
