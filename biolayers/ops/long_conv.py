"""Convolution with a kernel as long as the sequence.

y[b, c, t] = sum_j kernel[c, j] x[b, c, t + offset - j], with x zero outside its ends: every channel has a
kernel of its own. With offset 0 an output sees only what came before it; offset (k - 1) // 2 puts the
kernel's middle on it. The references take l k steps and always sum in the same order; the kernels take
l log l through the Fourier transform.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from shared import Cost, op
from shared.derive import loop_rule
from shared.errors import UserError


@op("biolayers::long_conv")
def long_conv(x: Tensor, kernel: Tensor, offset: int = 0) -> Tensor:
    """Convolve each channel with its own long kernel; the output is as long as the input.

    The long convolution of Hyena (Poli et al., 2023) and of state-space models in convolutional form.

    Args:
        x: (b, c, l) floating.
        kernel: (c, k) of the same dtype; any k of at least 1. Taps that would look before the sequence add
            nothing.
        offset: How far an output looks ahead, in 0..k - 1: 0 for a causal convolution.

    Returns:
        (b, c, l) contiguous.

    Raises:
        UserError: A shape does not fit, or the offset is out of range.

    Example:
        >>> import torch
        >>> from biolayers.ops import long_conv
        >>> x = torch.tensor([[[1.0, 0, 0, 2, 0]]])
        >>> long_conv(x, torch.tensor([[1.0, 0.5, 0.25]])).round(decimals=4) + 0.0
        tensor([[[1.0000, 0.5000, 0.2500, 2.0000, 1.0000]]])
    """
    check("long_conv", x, kernel.shape, offset)
    wide, reaching = widened(x), kernel[:, : x.shape[2] + offset]  # later taps look before the sequence
    taps = reaching.to(wide.dtype).unsqueeze(1)  # (c, 1, k)
    out = torch.zeros_like(wide)
    for start, seen in _windows(wide, reaching.shape[1], offset):
        out = out + (seen * taps[..., start : start + TAPS]).sum(-1)
    return out.to(x.dtype).contiguous()


@op("biolayers::long_conv_kernel_grad")
def long_conv_kernel_grad(x: Tensor, grad: Tensor, k: int, offset: int = 0) -> Tensor:
    """The gradient of `long_conv` with respect to its kernel, for the gradient of its output.

    grad_kernel[c, j] = sum_{b, t} grad[b, c, t] x[b, c, t + offset - j]; linear in both.

    Args:
        x: (b, c, l) floating.
        grad: (b, c, l) of the same dtype.
        k: Taps of the kernel.
        offset: As in the forward call.

    Returns:
        (c, k).

    Raises:
        UserError: A shape does not fit, or the offset is out of range.

    Example:
        >>> import torch
        >>> from biolayers.ops import long_conv_kernel_grad
        >>> x, grad = torch.tensor([[[1.0, 2, 3]]]), torch.tensor([[[0.0, 1, 0]]])
        >>> long_conv_kernel_grad(x, grad, 3).round(decimals=4) + 0.0
        tensor([[2., 1., 0.]])
    """
    check("long_conv_kernel_grad", x, (x.shape[1], k), offset, grad)
    reaching = min(k, x.shape[2] + offset)
    along = widened(grad).unsqueeze(-1)  # (b, c, l, 1)
    parts = [(seen * along).sum((0, 2)) for _, seen in _windows(widened(x), reaching, offset)]
    return F.pad(torch.cat(parts, 1), (0, k - reaching)).to(x.dtype).contiguous()


TAPS = 32  # of the kernel that the references take at a time: b c l numbers for each are held


def _windows(x: Tensor, k: int, offset: int) -> Iterator[tuple[int, Tensor]]:
    """The first tap of each group, and what its taps see from each position: (b, c, l, taps)."""
    length = x.shape[2]
    padded = F.pad(x, (k - 1 - offset, offset))
    for start in range(0, k, TAPS):
        count = min(TAPS, k - start)
        first = k - start - count  # where the last tap of the group stands at position 0
        span = padded[..., first : first + length + count - 1]
        yield start, span.unfold(2, count, 1).flip(-1)


def widened(x: Tensor) -> Tensor:
    """In single precision at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def span_of_transform(length: int, k: int, offset: int) -> int:
    """The least length that keeps what wraps around away from the outputs."""
    taps = min(k, length + offset)
    return max(length + offset, length + taps - 1 - offset)


def span_of_lags(length: int, k: int, offset: int) -> int:
    """The same for the gradient of the kernel."""
    return max(2 * length - 1, length + min(k, length + offset))


def size_of_transform(length: int, k: int, offset: int) -> int:
    """A good length of at least `span_of_transform`."""
    return good_size(span_of_transform(length, k, offset))


def size_of_lags(length: int, k: int, offset: int) -> int:
    """A good length of at least `span_of_lags`."""
    return good_size(span_of_lags(length, k, offset))


def good_size(n: int) -> int:
    """The next even number from n on that is a product of twos, threes and fives: such transforms are fast.

    Example:
        >>> [good_size(n) for n in (1, 7, 11, 127, 1999)]
        [2, 8, 12, 128, 2000]
    """
    best = 1 << max(1, (n - 1).bit_length())
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            size = threes << max(1, (-(-n // threes) - 1).bit_length())
            best = min(best, size) if size >= n else best
            threes *= 3
        fives *= 5
    return best


def check(name: str, x: Tensor, kernel: torch.Size | tuple[int, ...], offset: int, *grads: Tensor) -> None:
    """Check everything that the ops expect.

    Raises:
        UserError: See `long_conv`.
    """
    if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] < 1:
        raise UserError(f"{name}: expected x (b, c, l) with c, l of at least 1, received {tuple(x.shape)}")
    if len(kernel) != 2 or kernel[0] != x.shape[1] or kernel[1] < 1:
        raise UserError(
            f"{name}: expected kernel ({x.shape[1]}, k), one row per channel, received {tuple(kernel)}"
        )
    if not 0 <= offset < kernel[1]:
        raise UserError(f"{name}: expected offset in 0..{kernel[1] - 1}, received {offset}")
    for grad in grads:
        if grad.shape != x.shape:
            raise UserError(f"{name}: expected grad {tuple(x.shape)}, received {tuple(grad.shape)}")


# linear in each argument: the derivatives are the same two ops again, with the kernel turned around


@long_conv.derivative(saves=lambda x, kernel, offset: (x, kernel, offset))
def _(saved, needs, grad):
    x, kernel, offset = saved
    k = kernel.shape[1]
    return (
        long_conv(grad, kernel.flip(1), k - 1 - offset) if needs[0] else None,
        long_conv_kernel_grad(x, grad, k, offset) if needs[1] else None,
        None,
    )


@long_conv_kernel_grad.derivative(saves=lambda x, grad, k, offset: (x, grad, k, offset))
def _(saved, needs, along):
    x, grad, k, offset = saved
    return (
        long_conv(grad, along.flip(1), k - 1 - offset) if needs[0] else None,
        long_conv(x, along, offset) if needs[1] else None,
        None,
        None,
    )


def _sum(*parts: Tensor | None) -> Tensor:
    first, *others = (part for part in parts if part is not None)
    for other in others:
        first = first + other
    return first


@long_conv.tangent
def _(args, tangents):
    (x, kernel, offset), (along_x, along_kernel, _) = args, tangents
    return _sum(
        None if along_x is None else long_conv(along_x, kernel, offset),
        None if along_kernel is None else long_conv(x, along_kernel, offset),
    )


@long_conv_kernel_grad.tangent
def _(args, tangents):
    (x, grad, k, offset), (along_x, along_grad, *_) = args, tangents
    return _sum(
        None if along_x is None else long_conv_kernel_grad(along_x, grad, k, offset),
        None if along_grad is None else long_conv_kernel_grad(x, along_grad, k, offset),
    )


@long_conv.batch
def _(again, dims, x, kernel, offset):
    over_x, over_kernel = dims[:2]
    if over_x is not None and over_kernel is None:
        x = x.movedim(over_x, 0)  # (v, b, c, l)
        return again(x.flatten(0, 1), kernel, offset).unflatten(0, x.shape[:2]), 0
    v = kernel.shape[over_kernel]
    if v == 0:
        return loop_rule(again, v, dims, (x, kernel, offset))
    kernel = kernel.movedim(over_kernel, 0)  # (v, c, k): all become channels
    x = x.unsqueeze(1).expand(-1, v, -1, -1) if over_x is None else x.movedim(over_x, 1)  # (b, v, c, l)
    return again(x.flatten(1, 2), kernel.flatten(0, 1), offset).unflatten(1, kernel.shape[:2]), 1


@long_conv_kernel_grad.batch
def _(again, dims, x, grad, k, offset):
    v = next(a.shape[d] for a, d in zip((x, grad), dims[:2], strict=True) if d is not None)
    if v == 0:
        return loop_rule(again, v, dims, (x, grad, k, offset))
    x, grad = (
        a.unsqueeze(1).expand(-1, v, -1, -1) if d is None else a.movedim(d, 1)  # (b, v, c, l)
        for a, d in zip((x, grad), dims[:2], strict=True)
    )
    return again(x.flatten(1, 2), grad.flatten(1, 2), k, offset).unflatten(0, x.shape[1:3]), 0


@long_conv.fake
def _(x, kernel, offset=0):
    check("long_conv", x, kernel.shape, offset)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@long_conv_kernel_grad.fake
def _(x, grad, k, offset=0):
    check("long_conv_kernel_grad", x, (x.shape[1], k), offset, grad)
    return x.new_empty(x.shape[1], k)


FLOATS = (torch.float32, torch.float64)
_KERNELS = "biolayers.kernels.numba.long_conv"
for _op, _name in ((long_conv, "forward"), (long_conv_kernel_grad, "kernel_grad")):
    _op.kernel("numba", device="cpu", dtypes=FLOATS, needs=("numba",), target=f"{_KERNELS}:{_name}")
_TRANSFORMS = "biolayers.ops.long_conv_fft"
long_conv.kernel("fft", device="cuda", target=f"{_TRANSFORMS}:forward")
long_conv_kernel_grad.kernel("fft", device="cuda", target=f"{_TRANSFORMS}:kernel_grad")
long_conv.autocast(cpu=torch.float32, cuda=torch.float32)
long_conv_kernel_grad.autocast(cpu=torch.float32, cuda=torch.float32)


@long_conv.cost
def _(x, kernel, offset):
    """Three transforms of 2.5 n log2 n each, for every channel; x and kernel are read, y is written."""
    check("long_conv", x, kernel.shape, offset)
    b, c, l = x.shape
    n = size_of_transform(l, kernel.shape[1], offset)
    moved = (2 * x.numel() + kernel.numel()) * x.element_size()
    return Cost(flops=int(2.5 * n * max(1, n.bit_length())) * (2 * b + 1) * c, bytes=moved)


@long_conv_kernel_grad.cost
def _(x, grad, k, offset):
    """Two transforms for each row, one for each channel."""
    check("long_conv_kernel_grad", x, (x.shape[1], k), offset, grad)
    b, c, l = x.shape
    n = size_of_lags(l, k, offset)
    moved = (2 * x.numel() + c * k) * x.element_size()
    return Cost(flops=int(2.5 * n * max(1, n.bit_length())) * (2 * b + 1) * c, bytes=moved)


_SAMPLES = ((2, 3, 7, 7, 0), (3, 2, 5, 9, 4), (2, 1, 8, 3, 2), (2, 2, 1, 1, 0))  # b, c, l, k, offset


def _sample(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@long_conv.samples(batch_axes={"x": 0})
def _():
    for b, c, l, k, offset in _SAMPLES:
        yield _sample(1, b, c, l), _sample(2, c, k), offset


@long_conv_kernel_grad.samples(batch_axes={"x": 0, "grad": 0})
def _():
    for b, c, l, k, offset in _SAMPLES:
        yield _sample(1, b, c, l), _sample(2, b, c, l), k, offset
