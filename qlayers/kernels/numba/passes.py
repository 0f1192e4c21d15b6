"""The passes of the kernel over the rows of a state.

A state is a place of rows (vectors): first those of the real parts, then those of the imaginary parts, each
`half` rows. Either the lanes of row c hold amplitude c of as many samples, or the lanes hold amplitudes of
one sample, amplitude c being lane c mod lanes of row c div lanes; masks are split accordingly into one of
rows and one of lanes, the latter 0 in the first case.

A turn by t pairs real numbers v and w into v - t w and w + t v; whoever reads the result divides by the
product of sqrt(1 + t^2). The arrays `tau` and `sgn` hold two rows for each turn: t with the signs that its
word has in the lanes, and negated; and these signs alone. Slopes are returned lane by lane.
"""

from numba import njit

from qlayers.kernels.numba.code import turn
from qlayers.kernels.numba.corners import NEAR
from qlayers.kernels.numba.simd import beyond, exchange, load, odd, spread, store
from shared.simd import add, fma, fnma, mul, neg

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster


@njit(**_INNER)
def zero_rows(array, start, stop):
    """Clear the rows start..stop."""
    zero = spread(array, 0)
    for row in range(start, stop):
        store(array, row, zero)


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
    zero = spread(state, 0)
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
def phase_words(state, half, code, first, last, tau, factor, direction):
    """Diagonal turns, one after the other, and a factor; direction 1 undoes them."""
    if half < 4:
        for row in range(half):
            re, im = load(state, row), load(state, half + row)
            for k in range(first, last):
                z = turn(code, k)[1] >> code.low_bits
                t = load(tau, 2 * k + (odd(z & row) ^ direction))
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
            z = turn(code, k)[1] >> code.low_bits
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
def entry(table, at, low_bits, low):
    """What a table has for the amplitudes of a row: one number, or one for each lane."""
    if low_bits == 0:
        return spread(table, table[at])
    return load(table, at) if low == 0 else exchange(load(table, at), low)


@njit(**_INNER)
def phase_table(state, half, table, low_bits, shift, factor, backward):
    """All diagonal turns whose angles the samples share at once: multiply by the table, and by a factor.

    table (2, 2^n): cosine and sine for each amplitude; that of amplitude c stands at c xor `shift`.
    """
    cosines, sines = table, beyond(table, half << low_bits)
    turned = neg(factor) if backward else factor
    low = shift & (1 << low_bits) - 1
    for row in range(half):
        at = row ^ shift >> low_bits
        c, s = entry(cosines, at, low_bits, low), entry(sines, at, low_bits, low)
        c, s = mul(factor, c), mul(turned, s)
        re, im = load(state, row), load(state, half + row)
        store(state, row, fma(s, im, mul(c, re)))
        store(state, half + row, fnma(s, re, mul(c, im)))


@njit(**_INNER)
def undo_table(state, costate, half, start, stop, table, low_bits, shift, factor, out):
    """`overlaps` and `phase_table` backward, on state and costate, in one sweep over the rows start..stop."""
    cosines, sines = table, beyond(table, half << low_bits)
    turned, low = neg(factor), shift & (1 << low_bits) - 1
    for row in range(start, stop):
        at = row ^ shift >> low_bits
        c, s = entry(cosines, at, low_bits, low), entry(sines, at, low_bits, low)
        c, s = mul(factor, c), mul(turned, s)
        re, im = load(state, row), load(state, half + row)
        cre, cim = load(costate, row), load(costate, half + row)
        store(out, row - start, fnma(cim, re, mul(cre, im)))
        store(state, row, fma(s, im, mul(c, re)))
        store(state, half + row, fnma(s, re, mul(c, im)))
        store(costate, row, fma(s, cim, mul(c, cre)))
        store(costate, half + row, fnma(s, cre, mul(c, cim)))


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
    zero = spread(state, 0)
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
            out[z * lanes + lane] = 1 - 2 * odd(z & lane)
