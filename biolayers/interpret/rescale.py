"""The rescale rule of DeepLIFT, for whatever functions a model calls.

A batch holds sequences in its first half and their baselines in the second. Where a function is not linear,
its derivative is replaced by the slope between the two, (f(x) - f(x')) / (x - x'), so that the gradient times
the difference of the inputs adds up to the difference of the outputs (Shrikumar, Greenside & Kundaje, 2017).
The rules hang on PyTorch's functions and not on modules: it does not matter whether an activation is a
module, a function, or used twice.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FLAT = 1e-6  # of the largest difference: below it, a slope is the derivative


class Rescale(TorchFunctionMode):
    """Within this block, activations, max-pools and products have the slopes of the rule as derivatives."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rule = RULES.get(getattr(func, "__name__", "").strip("_"))
        if rule is None or not args or not _pairs(args[0]):
            return func(*args, **kwargs)
        return rule(func, *args, **{key: value for key, value in kwargs.items() if key != "inplace"})


def _pairs(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad and x.ndim > 0 and len(x) % 2 == 0


def pointwise(function: Callable[..., Tensor], func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """An activation: its value, with the slope as derivative."""
    # what the derivative is, where both inputs are the same
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        out = function(leaf, *args, **kwargs)
        (derivative,) = torch.autograd.grad(out.sum(), leaf)
    out = out.detach()
    inputs, outputs = _gap(x.detach()), _gap(out)
    flat = inputs.abs() <= _FLAT * inputs.abs().amax().clamp_min(torch.finfo(x.dtype).tiny)
    half = derivative.chunk(2)[0]
    slope = torch.where(flat, half, outputs / torch.where(flat, 1, inputs))
    return out + slope.repeat(2, *[1] * (x.ndim - 1)) * (x - x.detach())


def max_pool1d(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """A pool."""
    out, places = F.max_pool1d(x.detach(), *args[:5], **{**kwargs, "return_indices": True})
    return _pooled(x, out, places, len(args) > 5 or kwargs.get("return_indices"))


def adaptive_max_pool1d(func: Any, x: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """A pool to a number of places."""
    return _pooled(x, *F.adaptive_max_pool1d(x.detach(), output_size, return_indices=True), return_indices)


def _pooled(x: Tensor, out: Tensor, places: Tensor, with_places: Any) -> Any:
    values = _largest(x, out, places, -1)
    return (values, places) if with_places else values


def largest(func: Any, x: Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    """`max` of two tensors, or along one dimension, with the places."""
    if isinstance(dim, Tensor):
        return extreme(func, x, dim)
    if not isinstance(dim, int) or dim % x.ndim == 0:
        return func(x, *([] if dim is None else [dim, keepdim]), **kwargs)
    found = func(x.detach(), dim, keepdim=True)
    pair = _largest(x, *found, dim), found.indices
    return type(found)(pair if keepdim else [each.squeeze(dim) for each in pair])


def extreme(func: Any, x: Tensor, y: Any) -> Tensor:
    """The larger or the smaller of two: each counts with the mean of both orders in which they can change."""
    if not isinstance(y, Tensor) or x.shape != y.shape:
        return func(x, y)
    if not _pairs(y):
        return pointwise(func, func, x, y)
    (a, a0), (b, b0) = (v.detach().chunk(2) for v in (x, y))
    out, total = func(x.detach(), y.detach()), 0
    new, old = out.chunk(2)
    mixed = func(a, b0), func(a0, b)
    for v, own, other in ((x, *mixed), (y, *mixed[::-1])):
        gain, step = (own - old + new - other) / 2, _gap(v.detach())
        slope = torch.where(gain == 0, 0, gain / torch.where(gain == 0, 1, step))
        total = total + torch.cat([slope, slope]) * (v - v.detach())
    return out + total


def amax(func: Any, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest along one dimension."""
    along = dim[0] if isinstance(dim, (tuple, list)) and len(dim) == 1 else dim
    if not isinstance(along, int) or along % x.ndim == 0:
        return func(x, *([] if dim is None else [dim]), keepdim=keepdim)
    out = _largest(x, *x.detach().max(along, keepdim=True), along)
    return out if keepdim else out.squeeze(along)


def _largest(x: Tensor, out: Tensor, places: Tensor, dim: int) -> Tensor:
    """The value of largest numbers, reached in two steps over the larger of both outputs.

    With a, b the outputs and c = max(a, b), the place of a counts for c - b, that of b for a - c.
    """
    a, b = out.chunk(2)
    most = torch.maximum(a, b)
    total = out
    for gain, place in zip((most - b, a - most), places.chunk(2), strict=True):
        there = x.gather(dim, torch.cat([place, place]))
        step = _gap(there.detach())
        slope = torch.where(gain == 0, 0, gain / torch.where(gain == 0, 1, step))
        total = total + torch.cat([slope, slope]) * (there - there.detach())
    return total


def product(func: Any, x: Tensor, y: Any, *args: Any, **kwargs: Any) -> Tensor:
    """A gate: each factor counts with the mean of the other, which adds up exactly."""
    if not _pairs(y) or len(x) != len(y) or x.ndim != y.ndim:
        return func(x, y, *args, **kwargs)
    mean_x, mean_y = (_mean(v.detach()) for v in (x, y))
    out = x.detach() * y.detach()
    return out + mean_y * (x - x.detach()) + mean_x * (y - y.detach())


def _gap(x: Tensor) -> Tensor:
    """The sequences' half minus the baselines'."""
    a, b = x.chunk(2)
    return a - b


def _mean(x: Tensor) -> Tensor:
    a, b = x.chunk(2)
    return ((a + b) / 2).repeat(2, *[1] * (x.ndim - 1))


_POINTWISE = (
    F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.softsign,
    F.hardtanh, F.hardswish, F.hardsigmoid, F.logsigmoid, F.prelu, torch.sigmoid, torch.tanh, torch.exp,
    torch.log, torch.log1p, torch.square, torch.sqrt, torch.abs, torch.pow, torch.clamp, torch.reciprocal,
    torch.rsqrt, torch.sin,
)  # fmt: skip
RULES: dict[str, Callable[..., Tensor]] = {
    **{function.__name__.strip("_"): partial(pointwise, function) for function in _POINTWISE},
    "max_pool1d": max_pool1d, "max_pool1d_with_indices": max_pool1d, "amax": amax,
    "adaptive_max_pool1d": adaptive_max_pool1d, "adaptive_max_pool1d_with_indices": adaptive_max_pool1d,
    "max": largest, "maximum": extreme, "minimum": extreme,
    "mul": product, "rmul": product,
}  # fmt: skip
