"""`long_conv` and the gradient of its kernel on CPU, through real Fourier transforms of our own.

As many rows of x as a vector has lanes are transformed side by side; everything of one such group, and the
spectrum of its kernels, stays in the cache of the processor that works on it. PyTorch's transforms give other
bits for another number of threads, and hang in a forked process whose parent used them.

Rows are the (sequence, channel) pairs in order of memory. The kernels of group g are those of group
g % period, so groups with the same kernels are worked on one after the other.
"""

import math
import threading

import numpy as np
from numba import njit
from torch import Tensor

from biolayers.kernels.numba.fourier.plan import Plan, half_size, plan_of
from biolayers.kernels.numba.fourier.products import (
    convolve,
    correlate,
    give_spectrum,
    keep_spectrum,
)
from biolayers.kernels.numba.fourier.rows import aligned, lanes_in, put_rows, room_for, take_rows
from biolayers.kernels.numba.fourier.transform import from_frequencies, to_frequencies
from biolayers.kernels.numba.memory import fresh
from biolayers.kernels.numba.simd import lanes_of
from biolayers.ops.long_conv import check, span_of_lags, span_of_transform
from shared.threads import parallel

_GRAIN = 8_000  # points of a transform that are worth a thread
_SHARES = 8  # at least so many parts of work in the gradient, if there are so many groups
_KEPT = 8 << 20  # bytes of working memory that a thread keeps


def forward(x: Tensor, kernel: Tensor, offset: int = 0) -> Tensor:
    """`biolayers::long_conv` for float32 and float64."""
    check("long_conv", x, kernel.shape, offset)
    b, c, l = x.shape
    out = fresh(x, b, c, l)
    if b:
        rows, lanes = _flat(x), lanes_of(x.element_size())
        groups, period = _groups(b, c, lanes)
        taps = _numpy(kernel)[:, : l + offset]
        if c % lanes:
            taps = taps[np.arange(period * lanes) % c]
        m = half_size(span_of_transform(l, kernel.shape[1], offset))
        parallel(
            _convolve, period * -(-groups // period), rows, np.ascontiguousarray(taps), out.numpy().ravel(),
            (l, offset, groups, period), m, plan_of(m, rows.dtype), grain=-(-_GRAIN // m),
        )  # fmt: skip
    return out


def kernel_grad(x: Tensor, grad: Tensor, k: int, offset: int = 0) -> Tensor:
    """`biolayers::long_conv_kernel_grad` for float32 and float64."""
    check("long_conv_kernel_grad", x, (x.shape[1], k), offset, grad)
    b, c, l = x.shape
    out = x.new_zeros(c, k)
    if b:
        rows, lanes = _flat(x), lanes_of(x.element_size())
        groups, period = _groups(b, c, lanes)
        shares = min(-(-groups // period), -(-_SHARES // period))  # by shapes alone: the same sums always
        taps, m = min(k, l + offset), half_size(span_of_lags(l, k, offset))
        found = np.empty((shares, period * lanes, taps), rows.dtype)
        parallel(
            _correlate, period * shares, rows, _flat(grad), found.reshape(-1),
            (l, taps, offset, groups, period, shares), m, plan_of(m, rows.dtype), grain=-(-_GRAIN // (2 * m)),
        )  # fmt: skip
        _add_up(found.reshape(-1, taps), out.numpy()[:, :taps])
    return out


def _flat(tensor: Tensor) -> np.ndarray:
    return _numpy(tensor).reshape(-1)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _groups(b: int, c: int, lanes: int) -> tuple[int, int]:
    """The number of groups of rows, and after how many of them the kernels are the same again."""
    groups = -(-b * c // lanes)
    return groups, min(groups, c // math.gcd(c, lanes))


def _add_up(parts: np.ndarray, out: np.ndarray) -> None:
    """Add the rows of each channel, in order: row i is of channel i % c."""
    c = len(out)
    for first in range(0, len(parts), c):
        rows = parts[first : first + c]
        out[: len(rows)] += rows


class _Own(threading.local):
    """What each thread keeps: memory for transforms of usual sizes; the system gives it page by page."""

    def __init__(self) -> None:
        self.room = np.empty(0, np.uint8)


_own = _Own()


def _room(lines: int, dtype: np.dtype) -> np.ndarray:
    """Flat memory for so many lines, after `aligned`."""
    size = room_for(lines, dtype).nbytes
    if size > _KEPT:
        return np.empty(size // dtype.itemsize, dtype)
    if _own.room.nbytes < size:
        _own.room = np.empty(size, np.uint8)
    return _own.room[:size].view(dtype)


def _convolve(
    start: int,
    stop: int,
    x: np.ndarray,
    taps: np.ndarray,
    out: np.ndarray,
    sizes: tuple[int, ...],
    m: int,
    plan: Plan,
) -> None:
    convolve_rows(start, stop, x, taps, out, sizes, m, plan, _room(4 * m + 8, x.dtype))


def _correlate(
    start: int,
    stop: int,
    x: np.ndarray,
    grad: np.ndarray,
    out: np.ndarray,
    sizes: tuple[int, ...],
    m: int,
    plan: Plan,
) -> None:
    correlate_rows(start, stop, x, grad, out, sizes, m, plan, _room(6 * m + 8, x.dtype))


@njit(nogil=True, cache=True)
def convolve_rows(start, stop, x, taps, out, sizes, m, plan, room):
    """Rows are (p, j): group j * period + p of x, whose kernels are those of group p."""
    l, offset, groups, period = sizes
    lanes, places = lanes_in(x), len(x) // l
    room = aligned(room)
    data, spectrum = room[: 2 * m * lanes], room[2 * m * lanes :]
    kernels, reach = taps.reshape(-1), taps.shape[1]
    known, each = -1, (groups + period - 1) // period
    for row in range(start, stop):
        p, j = divmod(row, each)
        first = (j * period + p) * lanes
        count = min(lanes, places - first)
        if count <= 0:
            continue
        if p != known:
            take_rows(kernels, reach, p * lanes, min(lanes, len(taps) - p * lanes), reach, data, 2 * m)
            to_frequencies(data, m, plan.stages, plan.roots)
            keep_spectrum(data, plan.partners, 0.25 / m, spectrum)
            known = p
        take_rows(x, l, first, count, l, data, 2 * m)
        to_frequencies(data, m, plan.stages, plan.roots)
        convolve(data, plan.partners, plan.turns, spectrum)
        from_frequencies(data, m, plan.stages, plan.roots)
        put_rows(data, offset, out, l, first, count, l)


@njit(nogil=True, cache=True)
def correlate_rows(start, stop, x, grad, out, sizes, m, plan, room):
    """Rows are (share, p): the groups j * period + p with j in the share; out (shares, period * lanes, taps).

    Lag i, the sum of grad[t] x[t - i], stands at line i, or at 2 m + i if negative; tap j has lag j - offset.
    """
    l, taps, offset, groups, period, shares = sizes
    lanes, places = lanes_in(x), len(x) // l
    room = aligned(room)
    data, other, spectrum = (
        room[: 2 * m * lanes],
        room[2 * m * lanes : 4 * m * lanes],
        room[4 * m * lanes : 4 * (m + len(plan.partners)) * lanes],
    )
    each = (groups + period - 1) // period
    for row in range(start, stop):
        share, p = divmod(row, period)
        spectrum[:] = 0
        for j in range(each * share // shares, each * (share + 1) // shares):
            first = (j * period + p) * lanes
            count = min(lanes, places - first)
            if count > 0:
                take_rows(x, l, first, count, l, data, 2 * m)
                to_frequencies(data, m, plan.stages, plan.roots)
                take_rows(grad, l, first, count, l, other, 2 * m)
                to_frequencies(other, m, plan.stages, plan.roots)
                correlate(data, other, plan.partners, plan.turns, spectrum)
        give_spectrum(spectrum, plan.partners, 0.25 / m, data)
        from_frequencies(data, m, plan.stages, plan.roots)
        ahead = min(offset, taps)
        target = out[row * lanes * taps : (row + 1) * lanes * taps]
        put_rows(data, 2 * m - offset, target, taps, 0, lanes, ahead)
        put_rows(data, 0, target[ahead:], taps, 0, lanes, taps - ahead)
