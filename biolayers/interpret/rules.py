"""How each layer acts on mutants: by name of PyTorch's function, on the windows that a mutation can reach.

A rule takes the run, and the function's arguments with a `Patch` in place of each batch of mutants. It
returns the new `Patch`, an ordinary tensor where nothing is left to save, or `NotImplemented`: then the
mutants are written out in full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.interpret.patch import Patch

if TYPE_CHECKING:
    from biolayers.interpret.mutants import Run

Rule = Callable[["Run", tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True)
class Flat:
    """Mutants whose channels and positions have become one dimension, (n, c l)."""

    patch: Patch

    def dense(self) -> Tensor:
        """In full."""
        return self.patch.dense().flatten(1)


# linear layers: differences go through them alone


def conv1d(
    run: Run, x: Patch, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """`F.conv1d`: with stride 1, a matrix product for each tap on a shifted part of the windows."""
    stride, dilation = _one(stride), _one(dilation)
    base = run.base(lambda: F.conv1d(x.base.columns, weight, bias, stride, padding, dilation, groups))
    span = dilation * (weight.shape[2] - 1)
    left = {"same": span // 2, "valid": 0}.get(padding) if isinstance(padding, str) else _one(padding)
    difference = x.difference()
    if stride > 1 or groups > 1:
        start, width, window = _reach(replace(x, data=difference, is_difference=True), span, left, stride)
        columns = window.data.permute(1, 2, 3, 0).flatten(0, 1)  # (n, c, w)
        found = F.conv1d(columns, weight, None, stride, 0, dilation, groups)  # (n, o, w')
        data = found.view(*difference.shape[1:3], -1, width).permute(3, 0, 1, 2).contiguous()
        return Patch(base, start, data, is_difference=True).settled()
    taps = run.keep("taps", lambda: weight.permute(2, 1, 0).contiguous())  # (k, c, o)
    w, p, m, c = difference.shape
    data = difference.new_zeros(w + span, p, m, weight.shape[0])
    rows = difference.reshape(-1, c)
    for j, tap in enumerate(taps):
        shift = span - j * dilation
        data[shift : shift + w].view(-1, tap.shape[1]).addmm_(rows, tap)
    return Patch(base, x.start + left - span, data, is_difference=True).settled()


def batch_norm(
    run: Run, x: Patch, mean: Any, var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """`F.batch_norm` with fixed statistics: a factor for each channel."""
    if training or var is None:
        return NotImplemented
    base = run.base(lambda: F.batch_norm(x.base.columns, mean, var, weight, bias, False, momentum, eps))
    factor = torch.rsqrt(var + eps) if weight is None else weight * torch.rsqrt(var + eps)
    return Patch(base, x.start, x.difference() * factor, is_difference=True)


def avg_pool1d(
    run: Run, x: Patch, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:  # fmt: skip
    """`F.avg_pool1d` where every mean is of as many places."""
    k, stride, padding = _one(kernel_size), _one(stride or kernel_size), _one(padding)
    if ceil_mode or (padding and not count_include_pad):
        return NotImplemented
    base = run.base(lambda: F.avg_pool1d(x.base.columns, k, stride, padding))
    difference = replace(x, data=x.difference(), is_difference=True)
    start, width, window = _reach(difference, k - 1, padding, stride)
    total = sum(_taps(window.data, k, 1, stride, width)) / k
    return Patch(base, start, total, is_difference=True).settled()


def pad(run: Run, x: Patch, ends: Any, mode: str = "constant", value: float | None = None) -> Any:
    """`F.pad` of positions by a constant; negative numbers cut."""
    ends = tuple(ends)
    if mode != "constant" or len(ends) != 2:
        return NotImplemented
    base = run.base(lambda: F.pad(x.base.columns, ends, value=value or 0.0))
    return Patch(base, x.start + ends[0], x.difference(), is_difference=True).settled()


def getitem(run: Run, x: Patch, key: Any) -> Any:
    """A stretch of positions: `x[:, :, a:b]` or `x[..., a:b]`."""
    *front, last = key if isinstance(key, tuple) else (key,)
    whole = front in ([slice(None), slice(None)], [Ellipsis])
    if not whole or not isinstance(last, slice) or last.step not in (None, 1):
        return NotImplemented
    first, end, _ = last.indices(x.base.length)
    base = run.base(lambda: x.base.columns[:, :, first:end])
    if base.length == 0:
        return NotImplemented
    return Patch(base, x.start - first, x.difference(), is_difference=True).settled()


def linear(run: Run, x: Any, weight: Tensor, bias: Tensor | None = None) -> Any:
    """`F.linear` on flattened mutants: those whose windows begin alike are multiplied together."""
    if not isinstance(x, Flat):
        return NotImplemented
    x = x.patch
    base = run.keep("base", lambda: F.linear(x.base.columns.flatten(1), weight, bias))  # (1, o)
    rows = run.keep(  # (l, c, o)
        "rows", lambda: weight.view(len(weight), -1, x.base.length).permute(2, 1, 0).contiguous()
    )
    if x.outside().any():
        x = x.moved(x.start.clamp(0, x.base.length - x.width), x.width)
    by_place = x.difference().permute(1, 2, 0, 3).contiguous()  # (p, m, w, c)
    out = base.new_empty(*by_place.shape[:2], len(weight))
    for start in x.start.unique().tolist():
        who = x.start == start
        part = rows[start : start + x.width].view(-1, len(weight))  # (w c, o)
        out[who] = torch.addmm(base, by_place[who].view(-1, len(part)), part).view(-1, *out.shape[1:])
    return out.flatten(0, 1)


def mean(run: Run, x: Patch, dim: Any = None, keepdim: bool = False) -> Any:
    """The mean over all positions: (n, c), or (n, c, 1)."""
    if _axis(dim) not in (-1, 2):
        return NotImplemented
    base = run.keep("base", lambda: x.base.columns.mean(2))  # (1, c)
    out = (x.difference().sum(0) / x.base.length).flatten(0, 1) + base
    return out.unsqueeze(2) if keepdim else out


# layers that are not linear


def max_pool1d(
    run: Run, x: Patch, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """`F.max_pool1d`."""
    if return_indices:
        return NotImplemented
    k, stride, left, step = _one(kernel_size), _one(stride or kernel_size), _one(padding), _one(dilation)
    base = run.base(lambda: F.max_pool1d(x.base.columns, k, stride, left, step, ceil_mode))
    value = replace(x, data=x.value(), is_difference=False)
    start, width, window = _reach(value, step * (k - 1), left, stride)
    outside = window.outside()
    if outside.any():
        window.data[outside] = -torch.inf
    first, *others = _taps(window.data, k, step, stride, width)
    most = first
    for other in others:
        most = torch.maximum(most, other)
    return Patch(base, start, most, is_difference=False).settled()


def amax(run: Run, x: Patch, dim: Any = (), keepdim: bool = False) -> Any:
    """The largest value over all positions: that of the window, or the base's before or behind it."""
    if _axis(dim) not in (-1, 2):
        return NotImplemented
    rows, length = x.base.rows, x.base.length
    least = rows.new_full((1, rows.shape[1]), -torch.inf)
    before = run.keep("before", lambda: torch.cat([least, rows.cummax(0).values]))  # of the first i rows
    behind = run.keep(  # from row i on
        "behind", lambda: torch.cat([rows.flip(0).cummax(0).values.flip(0), least])
    )
    ends = (x.start + x.width).clamp(0, length)
    rest = torch.maximum(before[x.start.clamp(0, length)], behind[ends])  # (p, c)
    inside = x.value().masked_fill(x.outside()[..., None, None], -torch.inf)
    out = torch.maximum(inside.amax(0), rest.unsqueeze(1)).flatten(0, 1)
    return out.unsqueeze(2) if keepdim else out


def _adaptive(rule: Callable[..., Any]) -> Callable[..., Any]:
    """An adaptive pool to one place is a reduction."""

    def adaptive(run: Run, x: Patch, output_size: Any, return_indices: bool = False) -> Any:
        return NotImplemented if _axis(output_size) != 1 or return_indices else rule(run, x, -1, True)

    return adaptive


def pointwise(function: Callable[..., Tensor], run: Run, x: Patch, *args: Any, **kwargs: Any) -> Any:
    """A function of each number by itself."""
    if any(isinstance(value, (Tensor, Patch)) for value in (*args, *kwargs.values())):
        return NotImplemented
    base = run.base(lambda: function(x.base.columns, *args, **kwargs))
    return Patch(base, x.start, function(x.value(), *args, **kwargs), is_difference=False)


def combine(function: Callable[..., Tensor], run: Run, a: Any, b: Any, **kwargs: Any) -> Any:
    """A sum, difference or product of mutants with mutants, a number, or one number for each channel."""
    if isinstance(a, Patch) and isinstance(b, Patch):
        return _of_two(function, run, a, b, **kwargs)
    x, other = (a, b) if isinstance(a, Patch) else (b, a)
    if not isinstance(x, Patch) or kwargs or not _is_per_channel(other):
        return NotImplemented
    base = run.base(lambda: function(*(v.base.columns if v is x else v for v in (a, b))))
    if base.columns.shape != x.base.columns.shape:
        return NotImplemented
    if isinstance(other, Tensor) and other.ndim > 1:
        other = other.flatten()  # (c,), along the last axis of windows
    data = function(*(x.value() if v is x else other for v in (a, b)))
    return Patch(base, x.start, data, is_difference=False)


def _of_two(function: Callable[..., Tensor], run: Run, a: Patch, b: Patch, **kwargs: Any) -> Any:
    """Both on windows that hold the windows of either."""
    if a.base.columns.shape != b.base.columns.shape:
        return NotImplemented
    base = run.base(lambda: function(a.base.columns, b.base.columns, **kwargs))
    start = torch.minimum(a.start, b.start)
    width = int((torch.maximum(a.start + a.width, b.start + b.width) - start).max())
    linear = function in (torch.add, torch.sub)
    sides = [
        replace(x, data=x.difference() if linear else x.value(), is_difference=linear).moved(start, width)
        for x in (a, b)
    ]
    data = function(sides[0].data, sides[1].data, **kwargs)
    return Patch(base, start, data, is_difference=linear).settled()


def _is_per_channel(other: Any) -> bool:
    if isinstance(other, (int, float)):
        return True
    return isinstance(other, Tensor) and (
        other.ndim == 0 or (other.ndim in (2, 3) and other.shape[-1] == 1 and other.shape[:-2].numel() == 1)
    )


# layers that change nothing


def same(run: Run, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Copies."""
    return x


def dropout(run: Run, x: Any, p: float = 0.5, training: bool = True) -> Any:
    """Dropout that is switched off."""
    return NotImplemented if training else x


def flatten(run: Run, x: Patch, start_dim: int = 0, end_dim: int = -1) -> Any:
    """(n, c, l) to (n, c l)."""
    return Flat(x) if start_dim == 1 and end_dim in (-1, 2) else NotImplemented


def reshape(run: Run, x: Patch, *shape: Any) -> Any:
    """The same by `view` and `reshape`."""
    sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    if len(sizes) != 2 or sizes[0] != x.count:
        return NotImplemented
    return Flat(x) if sizes[1] in (-1, x.base.columns[0].numel()) else NotImplemented


# shapes


def _reach(x: Patch, span: int, left: int, stride: int) -> tuple[Tensor, int, Patch]:
    """Which outputs a sliding window can change: their start, their number; and x where these look.

    Output q sees q stride - left + (0 .. span).
    """
    start = -torch.div(span - left - x.start, stride, rounding_mode="floor")
    width = (x.width - 1 + span) // stride + 1
    return start, width, x.moved(start * stride - left, (width - 1) * stride + span + 1)


def _taps(data: Tensor, k: int, step: int, stride: int, width: int) -> list[Tensor]:
    """For each tap of a sliding window, what it sees: (w', p, m, c)."""
    return [data[j * step : j * step + (width - 1) * stride + 1 : stride] for j in range(k)]


def _one(value: Any) -> int:
    """The number of a size that may come as a tuple of one."""
    return int(value[0]) if isinstance(value, (tuple, list)) else int(value)


def _axis(dim: Any) -> int | None:
    return _one(dim) if isinstance(dim, int) or (isinstance(dim, (tuple, list)) and len(dim) == 1) else None


_POINTWISE = (
    F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.softsign,
    F.hardtanh, F.hardswish, F.hardsigmoid, F.logsigmoid, F.threshold, torch.sigmoid, torch.tanh, torch.exp,
    torch.log1p, torch.abs, torch.square, torch.sqrt, torch.neg, torch.clamp, torch.pow, torch.sin, torch.cos,
)  # fmt: skip


def _on_windows(function: Callable[..., Any]) -> Rule:
    """A rule whose first argument must be unflattened mutants."""

    def rule(run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return function(run, *args, **kwargs) if args and isinstance(args[0], Patch) else NotImplemented

    return rule


def _on_any(function: Callable[..., Any]) -> Rule:
    return lambda run, args, kwargs: function(run, *args, **kwargs) if args else NotImplemented


_WINDOWS = {
    **{function.__name__.rstrip("_"): partial(pointwise, function) for function in _POINTWISE},
    "conv1d": conv1d, "batch_norm": batch_norm, "avg_pool1d": avg_pool1d, "max_pool1d": max_pool1d,
    "pad": pad, "getitem": getitem, "mean": mean, "amax": amax,
    "adaptive_avg_pool1d": _adaptive(mean), "adaptive_max_pool1d": _adaptive(amax),
    "flatten": flatten, "reshape": reshape, "view": reshape,
}  # fmt: skip
_ANY = {
    **{name: partial(combine, getattr(torch, name)) for name in ("add", "sub", "mul", "div")},
    "radd": partial(combine, torch.add), "rmul": partial(combine, torch.mul),
    "truediv": partial(combine, torch.div), "linear": linear,
    "dropout": dropout, "dropout1d": dropout, "alpha_dropout": dropout, "feature_dropout": dropout,
    "contiguous": same, "detach": same, "clone": same,
}  # fmt: skip
RULES: dict[str, Rule] = {
    **{name: _on_windows(function) for name, function in _WINDOWS.items()},
    **{name: _on_any(function) for name, function in _ANY.items()},
}
