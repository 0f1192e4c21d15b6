"""The passes of the kernel over the rows of a state.

A state is an array of rows (vectors): first those of the real parts, then those of the imaginary parts, each
`half` rows. Either the lanes of row c hold amplitude c of as many samples, or the lanes hold amplitudes of
one sample, amplitude c being lane c mod lanes of row c div lanes; masks are split accordingly into one of
rows and one of lanes, the latter 0 in the first case.

A turn by t pairs real numbers v and w into v - t w and w + t v; whoever reads the result divides by the
product of sqrt(1 + t^2). The arrays `tau` and `sgn` hold two rows for each turn: t with the signs that its
word has in the lanes, and negated; and these signs alone. Slopes are returned lane by lane.
"""

import numpy as np
from numba import njit

from qlayers.kernels.numba.simd import exchange, load, odd, store
from shared.simd import add, address, fma, fnma, mul, neg, splat

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster
NEAR = 255  # so many terms are summed by themselves before they join the others: long sums stay exact


@njit(**_INNER)
def aligned(count, lanes, like):
    """Room for `count` vectors that start on a 64-byte boundary."""
    room = np.empty((count + 1) * lanes, like.dtype)
    skip = (-address(room) % 64) // room.itemsize
    return room[skip : skip + count * lanes]


@njit(**_INNER)
def zero_rows(array, start, stop):
    """Clear the rows start..stop."""
    zero = splat(array.dtype.type(0))
    for row in range(start, stop):
        store(array, row, zero)


@njit(**_INNER)
def sheared(v, w, t):
    """V - t w and w + t v."""
    return fnma(t, w, v), fma(t, v, w)


@njit(**_INNER)
def undone(v, w, cv, cw, t, sign, slope):
    """A pair of state and costate before their turn, and the slope with the pair's part added."""
    slope = fma(sign, fnma(w, cv, mul(v, cw)), slope)
    return fma(t, w, v), fnma(t, v, w), fma(t, cw, cv), fnma(t, cv, cw), slope


@njit(**_INNER)
def kept(row, mask):
    """A row as it is, where no turn exchanges lanes."""
    return row


def _triple_forward(moved):
    """The pass for turns that exchange lanes, or for those that do not."""

    @njit(**_INNER)
    def triple_forward(state, half, info, high, first, tau):
        """Three turns on all groups of eight amplitudes."""
        z0, z1, z2 = high
        pivots, first, second, third = info[48], 2 * first, 2 * first + 2, 2 * first + 4
        x1, x2, x3, x4, x5, x6, x7 = info[17], info[18], info[19], info[20], info[21], info[22], info[23]
        for stream in range(2):
            rows, signs = 8 * stream, 24 + 12 * stream
            corner = 0
            for _ in range(half >> 3):
                p0, p1, p2 = first + odd(z0 & corner), second + odd(z1 & corner), third + odd(z2 & corner)
                r0, r1, r2, r3 = (
                    corner ^ info[rows],
                    corner ^ info[rows + 1],
                    corner ^ info[rows + 2],
                    corner ^ info[rows + 3],
                )
                r4, r5, r6, r7 = (
                    corner ^ info[rows + 4],
                    corner ^ info[rows + 5],
                    corner ^ info[rows + 6],
                    corner ^ info[rows + 7],
                )
                a0, a1 = load(state, r0), moved(load(state, r1), x1)
                a2, a3 = moved(load(state, r2), x2), moved(load(state, r3), x3)
                a4, a5 = moved(load(state, r4), x4), moved(load(state, r5), x5)
                a6, a7 = moved(load(state, r6), x6), moved(load(state, r7), x7)
                a0, a1 = sheared(a0, a1, load(tau, p0 ^ info[signs]))
                a2, a3 = sheared(a2, a3, load(tau, p0 ^ info[signs + 1]))
                a4, a5 = sheared(a4, a5, load(tau, p0 ^ info[signs + 2]))
                a6, a7 = sheared(a6, a7, load(tau, p0 ^ info[signs + 3]))
                a0, a2 = sheared(a0, a2, load(tau, p1 ^ info[signs + 4]))
                a1, a3 = sheared(a1, a3, load(tau, p1 ^ info[signs + 5]))
                a4, a6 = sheared(a4, a6, load(tau, p1 ^ info[signs + 6]))
                a5, a7 = sheared(a5, a7, load(tau, p1 ^ info[signs + 7]))
                a0, a4 = sheared(a0, a4, load(tau, p2 ^ info[signs + 8]))
                a1, a5 = sheared(a1, a5, load(tau, p2 ^ info[signs + 9]))
                a2, a6 = sheared(a2, a6, load(tau, p2 ^ info[signs + 10]))
                a3, a7 = sheared(a3, a7, load(tau, p2 ^ info[signs + 11]))
                store(state, r0, a0)
                store(state, r1, moved(a1, x1))
                store(state, r2, moved(a2, x2))
                store(state, r3, moved(a3, x3))
                store(state, r4, moved(a4, x4))
                store(state, r5, moved(a5, x5))
                store(state, r6, moved(a6, x6))
                store(state, r7, moved(a7, x7))
                corner = ((corner | pivots) + 1) & ~pivots

    return triple_forward


def _triple_backward(moved):
    """The pass for turns that exchange lanes, or for those that do not."""

    @njit(**_INNER)
    def triple_backward(state, costate, half, info, high, first, tau, sgn):
        """Undo three turns on state and costate; returns their slopes."""
        z0, z1, z2 = high
        pivots, first, second, third = info[48], 2 * first, 2 * first + 2, 2 * first + 4
        x1, x2, x3, x4, x5, x6, x7 = info[17], info[18], info[19], info[20], info[21], info[22], info[23]
        zero = splat(state.dtype.type(0))
        s0, s1, s2, far0, far1, far2 = zero, zero, zero, zero, zero, zero
        for stream in range(2):
            rows, signs = 8 * stream, 24 + 12 * stream
            corner = 0
            for i in range(half >> 3):
                p0, p1, p2 = first + odd(z0 & corner), second + odd(z1 & corner), third + odd(z2 & corner)
                r0, r1, r2, r3 = (
                    corner ^ info[rows],
                    corner ^ info[rows + 1],
                    corner ^ info[rows + 2],
                    corner ^ info[rows + 3],
                )
                r4, r5, r6, r7 = (
                    corner ^ info[rows + 4],
                    corner ^ info[rows + 5],
                    corner ^ info[rows + 6],
                    corner ^ info[rows + 7],
                )
                a0, a1 = load(state, r0), moved(load(state, r1), x1)
                a2, a3 = moved(load(state, r2), x2), moved(load(state, r3), x3)
                a4, a5 = moved(load(state, r4), x4), moved(load(state, r5), x5)
                a6, a7 = moved(load(state, r6), x6), moved(load(state, r7), x7)
                c0, c1 = load(costate, r0), moved(load(costate, r1), x1)
                c2, c3 = moved(load(costate, r2), x2), moved(load(costate, r3), x3)
                c4, c5 = moved(load(costate, r4), x4), moved(load(costate, r5), x5)
                c6, c7 = moved(load(costate, r6), x6), moved(load(costate, r7), x7)
                at = p2 ^ info[signs + 8]
                a0, a4, c0, c4, s2 = undone(a0, a4, c0, c4, load(tau, at), load(sgn, at), s2)
                at = p2 ^ info[signs + 9]
                a1, a5, c1, c5, s2 = undone(a1, a5, c1, c5, load(tau, at), load(sgn, at), s2)
                at = p2 ^ info[signs + 10]
                a2, a6, c2, c6, s2 = undone(a2, a6, c2, c6, load(tau, at), load(sgn, at), s2)
                at = p2 ^ info[signs + 11]
                a3, a7, c3, c7, s2 = undone(a3, a7, c3, c7, load(tau, at), load(sgn, at), s2)
                at = p1 ^ info[signs + 4]
                a0, a2, c0, c2, s1 = undone(a0, a2, c0, c2, load(tau, at), load(sgn, at), s1)
                at = p1 ^ info[signs + 5]
                a1, a3, c1, c3, s1 = undone(a1, a3, c1, c3, load(tau, at), load(sgn, at), s1)
                at = p1 ^ info[signs + 6]
                a4, a6, c4, c6, s1 = undone(a4, a6, c4, c6, load(tau, at), load(sgn, at), s1)
                at = p1 ^ info[signs + 7]
                a5, a7, c5, c7, s1 = undone(a5, a7, c5, c7, load(tau, at), load(sgn, at), s1)
                at = p0 ^ info[signs]
                a0, a1, c0, c1, s0 = undone(a0, a1, c0, c1, load(tau, at), load(sgn, at), s0)
                at = p0 ^ info[signs + 1]
                a2, a3, c2, c3, s0 = undone(a2, a3, c2, c3, load(tau, at), load(sgn, at), s0)
                at = p0 ^ info[signs + 2]
                a4, a5, c4, c5, s0 = undone(a4, a5, c4, c5, load(tau, at), load(sgn, at), s0)
                at = p0 ^ info[signs + 3]
                a6, a7, c6, c7, s0 = undone(a6, a7, c6, c7, load(tau, at), load(sgn, at), s0)
                store(state, r0, a0)
                store(state, r1, moved(a1, x1))
                store(state, r2, moved(a2, x2))
                store(state, r3, moved(a3, x3))
                store(state, r4, moved(a4, x4))
                store(state, r5, moved(a5, x5))
                store(state, r6, moved(a6, x6))
                store(state, r7, moved(a7, x7))
                store(costate, r0, c0)
                store(costate, r1, moved(c1, x1))
                store(costate, r2, moved(c2, x2))
                store(costate, r3, moved(c3, x3))
                store(costate, r4, moved(c4, x4))
                store(costate, r5, moved(c5, x5))
                store(costate, r6, moved(c6, x6))
                store(costate, r7, moved(c7, x7))
                corner = ((corner | pivots) + 1) & ~pivots
                if i & NEAR == NEAR:
                    far0, far1, far2, s0, s1, s2 = (
                        add(far0, s0),
                        add(far1, s1),
                        add(far2, s2),
                        zero,
                        zero,
                        zero,
                    )
        return add(far0, s0), add(far1, s1), add(far2, s2)

    return triple_backward


triple_forward, triple_forward_crossed = _triple_forward(kept), _triple_forward(exchange)
triple_backward, triple_backward_crossed = _triple_backward(kept), _triple_backward(exchange)


@njit(**_INNER)
def pair_forward(state, half, x, low, z, mixed, k, tau):
    """One turn between rows: mask `x` of rows and `low` of lanes; `mixed` pairs real with imaginary parts."""
    pivot = leading_bit(x)
    cross = half if mixed else 0
    row = 0
    for _ in range(half >> 1):
        bit = 2 * k + odd(z & row)
        for part in range(0, 2 * half, half):
            first, second = row + part, (row ^ x) + (part ^ cross)
            t = load(tau, bit ^ int(mixed and part == 0))
            v, w = sheared(load(state, first), exchange(load(state, second), low), t)
            store(state, first, v)
            store(state, second, exchange(w, low))
        row = ((row | pivot) + 1) & ~pivot


@njit(**_INNER)
def pair_backward(state, costate, half, x, low, z, mixed, k, tau, sgn):
    """Undo one turn between rows on state and costate; returns its slope."""
    pivot = leading_bit(x)
    cross = half if mixed else 0
    zero = splat(state.dtype.type(0))
    slope, far = zero, zero
    row = 0
    for i in range(half >> 1):
        bit = 2 * k + odd(z & row)
        for part in range(0, 2 * half, half):
            first, second = row + part, (row ^ x) + (part ^ cross)
            at = bit ^ int(mixed and part == 0)
            v, w, cv, cw, slope = undone(
                load(state, first),
                exchange(load(state, second), low),
                load(costate, first),
                exchange(load(costate, second), low),
                load(tau, at),
                load(sgn, at),
                slope,
            )
            store(state, first, v)
            store(state, second, exchange(w, low))
            store(costate, first, cv)
            store(costate, second, exchange(cw, low))
        row = ((row | pivot) + 1) & ~pivot
        if i & NEAR == NEAR:
            far, slope = add(far, slope), zero
    return add(far, slope)


@njit(**_INNER)
def leading_bit(x):
    """The highest set bit."""
    bit = 1
    while bit << 1 <= x:
        bit <<= 1
    return bit


@njit(**_INNER)
def lane_forward(state, half, low, z, mixed, k, tau):
    """One turn within the rows: every lane is both v, and w of another one."""
    for row in range(half):
        t = load(tau, 2 * k + odd(z & row))
        re, im = load(state, row), load(state, half + row)
        if mixed:
            a, b = fma(t, exchange(im, low), re), fnma(t, exchange(re, low), im)
        else:
            a, b = fnma(t, exchange(re, low), re), fnma(t, exchange(im, low), im)
        store(state, row, a)
        store(state, half + row, b)


@njit(**_INNER)
def lane_backward(state, costate, half, low, z, mixed, k, tau, sgn):
    """Undo one turn within the rows on state and costate; returns its slope."""
    zero = splat(state.dtype.type(0))
    slope, far = zero, zero
    for row in range(half):
        bit = 2 * k + odd(z & row)
        t, s = load(tau, bit), load(sgn, bit)
        re, im = load(state, row), load(state, half + row)
        cre, cim = load(costate, row), load(costate, half + row)
        to_re, to_im = exchange(re, low), exchange(im, low)
        back_re, back_im = exchange(cre, low), exchange(cim, low)
        if mixed:
            slope = fma(s, fnma(cim, to_re, mul(cre, to_im)), slope)
            re, im = fnma(t, to_im, re), fma(t, to_re, im)
            cre, cim = fnma(t, back_im, cre), fma(t, back_re, cim)
        else:
            slope = fnma(s, fma(cim, to_im, mul(cre, to_re)), slope)
            re, im = fma(t, to_re, re), fma(t, to_im, im)
            cre, cim = fma(t, back_re, cre), fma(t, back_im, cim)
        store(state, row, re)
        store(state, half + row, im)
        store(costate, row, cre)
        store(costate, half + row, cim)
        if row & NEAR == NEAR:
            far, slope = add(far, slope), zero
    return add(far, slope)


@njit(**_INNER)
def scale_rows(array, rows, factor):
    """Multiply all rows by a vector."""
    for row in range(rows):
        store(array, row, mul(factor, load(array, row)))


@njit(**_INNER)
def phase_words(state, half, turns, first, last, low_bits, tau, factor, direction):
    """Diagonal turns, one after the other, and a factor; direction 1 undoes them."""
    if half < 4:
        for row in range(half):
            re, im = load(state, row), load(state, half + row)
            for k in range(first, last):
                t = load(tau, 2 * k + (odd((turns[k, 1] >> low_bits) & row) ^ direction))
                re, im = fma(t, im, re), fnma(t, re, im)
            store(state, row, mul(factor, re))
            store(state, half + row, mul(factor, im))
        return
    for row in range(0, half, 4):  # four rows overlap each other's arithmetic
        re0, re1, re2, re3 = (
            load(state, row),
            load(state, row + 1),
            load(state, row + 2),
            load(state, row + 3),
        )
        at = half + row
        im0, im1, im2, im3 = load(state, at), load(state, at + 1), load(state, at + 2), load(state, at + 3)
        for k in range(first, last):
            z = turns[k, 1] >> low_bits
            bit = 2 * k + (odd(z & row) ^ direction)
            one, two = z & 1, z >> 1 & 1
            t0, t1 = load(tau, bit), load(tau, bit ^ one)
            t2, t3 = load(tau, bit ^ two), load(tau, bit ^ one ^ two)
            re0, im0 = fma(t0, im0, re0), fnma(t0, re0, im0)
            re1, im1 = fma(t1, im1, re1), fnma(t1, re1, im1)
            re2, im2 = fma(t2, im2, re2), fnma(t2, re2, im2)
            re3, im3 = fma(t3, im3, re3), fnma(t3, re3, im3)
        store(state, row, mul(factor, re0))
        store(state, row + 1, mul(factor, re1))
        store(state, row + 2, mul(factor, re2))
        store(state, row + 3, mul(factor, re3))
        store(state, at, mul(factor, im0))
        store(state, at + 1, mul(factor, im1))
        store(state, at + 2, mul(factor, im2))
        store(state, at + 3, mul(factor, im3))


@njit(**_INNER)
def phase_table(state, half, table, low_bits, shift, factor, backward):
    """All diagonal turns whose angles the samples share at once: multiply by the table, and by a factor.

    table (2, 2^n): cosine and sine for each amplitude; that of amplitude c stands at c xor `shift`.
    """
    cosines, sines = table[0], table[1]
    turned = neg(factor) if backward else factor
    low = shift & (1 << low_bits) - 1
    for row in range(half):
        at = row ^ shift >> low_bits
        if low_bits == 0:
            c, s = splat(cosines[at]), splat(sines[at])
        elif low == 0:
            c, s = load(cosines, at), load(sines, at)
        else:
            c, s = exchange(load(cosines, at), low), exchange(load(sines, at), low)
        c, s = mul(factor, c), mul(turned, s)
        re, im = load(state, row), load(state, half + row)
        store(state, row, fma(s, im, mul(c, re)))
        store(state, half + row, fnma(s, re, mul(c, im)))


@njit(**_INNER)
def overlaps(state, costate, half, start, stop, out):
    """Re<costate| -i |state> of each amplitude: its sums with signs are the slopes of diagonal turns."""
    for row in range(start, stop):
        re, im = load(state, row), load(state, half + row)
        store(out, row - start, fnma(load(costate, half + row), re, mul(load(costate, row), im)))


@njit(**_INNER)
def probabilities(state, half, start, stop, out):
    """The squared moduli."""
    for row in range(start, stop):
        re, im = load(state, row), load(state, half + row)
        store(out, row - start, fma(im, im, mul(re, re)))


@njit(**_INNER)
def transform(rows, count):
    """The Walsh-Hadamard transform: row z becomes the sum of rows h with signs (-1)^parity(z & h)."""
    width = 1
    while width < count:
        if 2 * width < count:
            for start in range(0, count, 4 * width):
                for row in range(start, start + width):
                    a, b = load(rows, row), load(rows, row + width)
                    c, d = load(rows, row + 2 * width), load(rows, row + 3 * width)
                    e, f, g, h = add(a, b), add(a, neg(b)), add(c, d), add(c, neg(d))
                    store(rows, row, add(e, g))
                    store(rows, row + width, add(f, h))
                    store(rows, row + 2 * width, add(e, neg(g)))
                    store(rows, row + 3 * width, add(f, neg(h)))
            width *= 4
        else:
            for row in range(width):
                a, b = load(rows, row), load(rows, row + width)
                store(rows, row, add(a, b))
                store(rows, row + width, add(a, neg(b)))
            width *= 2


@njit(**_INNER)
def word_value(state, half, x, low, z, power, pattern):
    """<state|P|state> of a word with an X part, lane by lane: masks `x` and `z` of rows, `low` of lanes."""
    zero = splat(state.dtype.type(0))
    value, far = zero, zero
    for row in range(half):
        re, im = load(state, row), load(state, half + row)
        to_re, to_im = exchange(load(state, row ^ x), low), exchange(load(state, half + (row ^ x)), low)
        part = fma(to_im, im, mul(to_re, re)) if power % 2 == 0 else fnma(to_re, im, mul(to_im, re))
        value = add(value, neg(part) if odd(z & row) else part)
        if row & NEAR == NEAR:
            far, value = add(far, value), zero
    value = mul(pattern, add(far, value))
    return neg(value) if power >= 2 else value


@njit(**_INNER)
def add_word(state, costate, half, x, low, z, power, weight):
    """Add weight P|state> to the costate, the weight with the signs that the word has in the lanes."""
    signed = neg(weight) if power >= 2 else weight
    for row in range(half):
        w = neg(signed) if odd(z & row) else signed
        re, im = mul(w, load(state, row)), mul(w, load(state, half + row))
        to, to_im = row ^ x, half + (row ^ x)
        if power % 2 == 0:
            store(costate, to, add(load(costate, to), exchange(re, low)))
            store(costate, to_im, add(load(costate, to_im), exchange(im, low)))
        else:
            store(costate, to, add(load(costate, to), exchange(neg(im), low)))
            store(costate, to_im, add(load(costate, to_im), exchange(re, low)))


@njit(**_INNER)
def fill_patterns(low_bits, lanes, out):
    """Row z of `out`: (-1)^parity(z & lane) in each lane, for the masks z of `low_bits` bits."""
    for z in range(1 << low_bits):
        for lane in range(lanes):
            out[z * lanes + lane] = 1 - 2 * odd(np.int64(z & lane))
