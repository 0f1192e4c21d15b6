"""`selective_scan` and its gradient on CPU: a vector of channels at a time, the states in the cache.

A row of work is one sequence and the channels of one SIMD vector. Forward, the n state vectors are carried
along and nothing of them is kept. Backward, a first sweep keeps the states at the start of every stretch of
`STRETCH` positions; from the last stretch to the first, its states are made again and the costate runs back.
"""

import math
from typing import Any

import numpy as np
import torch.nn.functional as F
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic
from torch import Tensor

from biolayers.ops.selective_scan import check
from shared.simd import (
    Lowering,
    add,
    call,
    fma,
    lanes_of,
    load,
    mul,
    splat,
    splat_vector,
    store,
    total,
)
from shared.threads import parallel

STRETCH = 32  # positions whose states are held at once
_GRAIN = 40_000  # vector exponentials that are worth a thread

_LOG2 = 0.693359375, 2.121944400546905827679e-4  # log(2) = first - second; the first's multiples are exact
_TERMS = {32: 8, 64: 14}  # of the series of exp on |r| <= log(2) / 2, to the last bit or two
_FORMAT = {32: (23, 127, -87.3, 88.7), 64: (52, 1023, -708.3, 709.7)}  # mantissa, bias, smallest, largest


def forward(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """`biolayers::selective_scan` for float32 and float64."""
    check("selective_scan", x, delta, a, b, c)
    (batch, l, d), n = x.shape, a.shape[1]
    lanes = lanes_of(x.element_size())
    whole = _whole(lanes, x, delta)
    out = whole[0].new_empty(whole[0].shape)
    blocks = whole[0].shape[2] // lanes
    parallel(
        forward_rows, batch * blocks, *map(_numpy, whole), _rates(a, lanes), _numpy(b), _numpy(c),
        out.numpy(), grain=max(1, _GRAIN // (l * n)),
    )  # fmt: skip
    return out if out.shape == x.shape else out[..., :d].contiguous()


def backward(
    x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`biolayers::selective_scan_backward` for float32 and float64."""
    check("selective_scan_backward", x, delta, a, b, c, grad)
    (batch, l, d), n = x.shape, a.shape[1]
    lanes = lanes_of(x.element_size())
    whole = _whole(lanes, x, delta, grad)
    blocks = whole[0].shape[2] // lanes
    dx, ddelta = (whole[0].new_empty(whole[0].shape) for _ in range(2))
    da = x.new_empty(batch, blocks, n, lanes)
    db, dc = (x.new_empty(blocks, batch, l, n) for _ in range(2))
    parallel(
        backward_rows, batch * blocks, *map(_numpy, whole), _rates(a, lanes), _numpy(b), _numpy(c),
        dx.numpy(), ddelta.numpy(), da.numpy(), db.numpy(), dc.numpy(), grain=max(1, _GRAIN // (3 * l * n)),
    )  # fmt: skip
    da = da.sum(0).transpose(1, 2).flatten(0, 1)[:d]  # (d, n)
    return dx[..., :d].contiguous(), ddelta[..., :d].contiguous(), da.contiguous(), db.sum(0), dc.sum(0)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _whole(lanes: int, *tensors: Tensor) -> list[Tensor]:
    """With channels of zeros up to a whole number of vectors."""
    return [F.pad(tensor.detach(), (0, -tensor.shape[-1] % lanes)).contiguous() for tensor in tensors]


def _rates(a: Tensor, lanes: int) -> np.ndarray:
    """(blocks, n, lanes)."""
    (whole,) = _whole(lanes, a.detach().T)
    return _numpy(whole.unflatten(1, (-1, lanes)).transpose(0, 1))


@njit(nogil=True, cache=True)
def forward_rows(start, stop, x, delta, a, b, c, out):
    """Rows are (sequence, block of channels)."""
    _, l, d = x.shape
    blocks, n, lanes = a.shape
    xs, deltas, rates, ins, outs, ys = (
        x.reshape(-1), delta.reshape(-1), a.reshape(-1), b.reshape(-1), c.reshape(-1), out.reshape(-1),
    )  # fmt: skip
    h = np.empty(n * lanes, x.dtype)
    zero = x.dtype.type(0)
    for row in range(start, stop):
        sequence, block = divmod(row, blocks)
        h[:] = 0
        first = sequence * l
        for t in range(first, first + l):
            place = t * d + block * lanes
            step = load(deltas, place)
            gain = mul(step, load(xs, place))
            y = splat(zero)
            for s in range(n):
                kept = splat(zero)
                if t > first:  # no decay of nothing: it might be infinite
                    kept = mul(exp(mul(step, load(rates, (block * n + s) * lanes))), load(h, s * lanes))
                state = fma(gain, splat(ins[t * n + s]), kept)
                store(h, s * lanes, state)
                y = fma(state, splat(outs[t * n + s]), y)
            store(ys, place, y)


@njit(nogil=True, cache=True)
def backward_rows(start, stop, x, delta, grad, a, b, c, dx, ddelta, da, db, dc):
    """Rows are (sequence, block of channels); da[sequence, block], db and dc[block, sequence] are theirs."""
    batch, l, d = x.shape
    blocks, n, lanes = a.shape
    xs, deltas, grads, rates, ins, outs = (
        x.reshape(-1), delta.reshape(-1), grad.reshape(-1), a.reshape(-1), b.reshape(-1), c.reshape(-1),
    )  # fmt: skip
    dxs, ddeltas, das, dbs, dcs = (
        dx.reshape(-1), ddelta.reshape(-1), da.reshape(-1), db.reshape(-1), dc.reshape(-1),
    )  # fmt: skip
    size = n * lanes
    stretches = (l + STRETCH - 1) // STRETCH
    starts = np.empty((stretches + 1) * size, x.dtype)  # states before each stretch
    states = np.empty((STRETCH + 1) * size, x.dtype)
    decays = np.empty(STRETCH * size, x.dtype)
    costate = np.empty(size, x.dtype)
    zero = x.dtype.type(0)
    for row in range(start, stop):
        sequence, block = divmod(row, blocks)
        starts[:size] = 0
        for stretch in range(stretches):
            first, last = stretch * STRETCH, min(l, (stretch + 1) * STRETCH)
            states[:size] = starts[stretch * size : (stretch + 1) * size]
            run(
                xs,
                deltas,
                rates,
                ins,
                sequence * l + first,
                last - first,
                l,
                d,
                block,
                n,
                lanes,
                states,
                decays,
            )
            starts[(stretch + 1) * size : (stretch + 2) * size] = states[
                (last - first) * size : (last - first + 1) * size
            ]
        costate[:] = 0
        das[row * size : (row + 1) * size] = 0
        for stretch in range(stretches - 1, -1, -1):
            first, last = stretch * STRETCH, min(l, (stretch + 1) * STRETCH)
            if stretch < stretches - 1:
                states[:size] = starts[stretch * size : (stretch + 1) * size]
                run(
                    xs, deltas, rates, ins, sequence * l + first, last - first, l, d, block, n, lanes, states,
                    decays,
                )  # fmt: skip
            for i in range(last - first - 1, -1, -1):
                t = sequence * l + first + i
                place = t * d + block * lanes
                partial = ((block * batch + sequence) * l + first + i) * n
                step, value, pull = load(deltas, place), load(xs, place), load(grads, place)
                gain = mul(step, value)
                share, slope = splat(zero), splat(zero)
                for s in range(n):
                    at = s * lanes
                    rate = load(rates, block * size + at)
                    decay = load(decays, i * size + at)
                    dcs[partial + s] = total(mul(pull, load(states, (i + 1) * size + at)))
                    lam = fma(pull, splat(outs[t * n + s]), load(costate, at))
                    dbs[partial + s] = total(mul(lam, gain))
                    share = fma(lam, splat(ins[t * n + s]), share)
                    carried = mul(lam, decay)
                    store(costate, at, carried)
                    pace = mul(carried, load(states, i * size + at))
                    slope = fma(pace, rate, slope)
                    store(das, row * size + at, fma(pace, step, load(das, row * size + at)))
                store(dxs, place, mul(share, step))
                store(ddeltas, place, add(slope, mul(share, value)))


@njit(nogil=True, cache=True)
def run(xs, deltas, rates, ins, first, count, l, d, block, n, lanes, states, decays):
    """Make the states behind `count` positions, from those in the first place of `states`, and the decays."""
    size = n * lanes
    zero = states.dtype.type(0)
    for i in range(count):
        t = first + i
        place = t * d + block * lanes
        step = load(deltas, place)
        gain = mul(step, load(xs, place))
        for s in range(n):
            at = s * lanes
            decay = splat(zero)
            if t % l:  # the first position keeps nothing
                decay = exp(mul(step, load(rates, block * size + at)))
            store(decays, i * size + at, decay)
            kept = mul(decay, load(states, i * size + at))
            store(states, (i + 1) * size + at, fma(gain, splat(ins[t * n + s]), kept))


@intrinsic
def exp(typing: Any, a: Any) -> Lowering:
    """A vector of exponentials: 2^k e^r with a = k log(2) + r, and e^r by its power series."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits, (value,) = a.scalar.bitwidth, args
        mantissa, bias, least, most = _FORMAT[bits]
        whole = ir.VectorType(ir.IntType(bits), a.lanes)
        kind = value.type

        def constant(number: float) -> Any:
            return splat_vector(builder, ir.Constant(kind.element, number), a)

        def multiply_add(x: Any, y: Any, z: Any) -> Any:
            return call(builder, f"llvm.fma.v{a.lanes}f{bits}", kind, [x, y, z])

        low, high = constant(least), constant(most)
        inner = builder.select(builder.fcmp_ordered("<", value, low), low, value)  # NaN stays
        inner = builder.select(builder.fcmp_ordered(">", inner, high), high, inner)
        count = builder.fmul(inner, constant(1 / math.log(2)))
        count = call(builder, f"llvm.rint.v{a.lanes}f{bits}", kind, [count])
        large, excess = _LOG2
        rest = multiply_add(count, constant(-large), inner)
        rest = multiply_add(count, constant(excess), rest)
        series = constant(1 / math.factorial(_TERMS[bits] - 1))
        for power in range(_TERMS[bits] - 2, -1, -1):
            series = multiply_add(series, rest, constant(1 / math.factorial(power)))
        exponent = builder.fptosi(count, whole)
        half = builder.ashr(exponent, ir.Constant(whole, [1] * a.lanes))
        shift, middle = (ir.Constant(whole, [number] * a.lanes) for number in (mantissa, bias))
        found = series
        for part in (half, builder.sub(exponent, half)):  # 2^k itself may be too large for a float
            power_of_two = builder.bitcast(builder.shl(builder.add(part, middle), shift), kind)
            found = builder.fmul(found, power_of_two)
        infinite = builder.fcmp_ordered(">", value, high)
        found = builder.select(infinite, constant(math.inf), found)
        return builder.select(builder.fcmp_ordered("<", value, low), constant(0.0), found)

    return a(a), lower
