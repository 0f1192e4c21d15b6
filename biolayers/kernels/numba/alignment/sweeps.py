"""The sums over all paths of one pair, row by row, in weights exp(worth / T) rather than their logarithms.

With w[i, j] = exp(similarity / T), o and e the weights of a gap's first and further letters, forward is

    pair[i, j] = w[i, j] (pair + down + right + start)[i - 1, j - 1]
    down[i, j] = o (pair + right)[i - 1, j] + e down[i - 1, j]
    right[i, j] = o (pair + down)[i, j - 1] + e right[i, j - 1]

and backward its transpose. The last line is a prefix sum with a constant factor, so a line of SIMD lanes
holds neighbouring cells of one row, and no exponential but w is needed. Each line of the row has a power of
two of its own, renewed when the cell at its end (backward: its beginning) has moved by more than 2^MOVED; so
a row may span any range. What one line cannot hold is noticed, and left to the caller.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba.alignment.lines import (
    add,
    enter,
    enter_last,
    exp2,
    exponent_of,
    first,
    fma,
    greatest,
    higher_of,
    last,
    least,
    lower_of,
    mul,
    power_of_two,
    ramp,
    read_some,
    run_down,
    run_up,
    splat,
    total,
    write_some,
)
from biolayers.kernels.numba.simd import read, write

MOVED = 16
KEPT = 4  # numbers kept of each cell for the way back: w, pair, down, right


@njit(nogil=True, cache=True)
def first_row(state, powers_of, row, kept, places, local):
    """Set `state` to row 0: beginnings everywhere, or the gap from the origin on; keep it in slot 0.

    Args:
        state: (ways (width,), down of the next row (width,), exponents (blocks,) int64).
        powers_of: (log2 of o, log2 of e) as float64.
        row: (o, e) of the kernel's type.
        kept: (rows, KEPT, width).
        places: (rows, blocks) int64: the exponents of `kept`.
        local: Whether paths may begin anywhere.
    """
    ways, below, exponents = state
    log_open, log_extend = powers_of
    opening, extension = row
    lanes = ways.shape[0] // exponents.shape[0]
    rise, flat = ramp(extension), kept.reshape(-1)
    none = splat(ways.dtype.type(0))
    for block in range(exponents.shape[0]):
        at = block * lanes
        right = none
        exponents[block] = 0
        if local:
            write(ways, at, splat(ways.dtype.type(1)))
        else:
            logarithm = log_open + at * log_extend
            exponents[block] = np.int64(np.floor(logarithm + (lanes - 1) * log_extend))
            right = mul(splat(ways.dtype.type(2.0 ** (logarithm - exponents[block]))), rise)
            write(ways, at, right)
        write(below, at, mul(splat(opening), right))
        if kept.shape[0] > 0:
            places[0, block] = exponents[block]
            for part in range(KEPT):
                write(flat, at + part * ways.shape[0], right if part == KEPT - 1 else none)


@njit(nogil=True, cache=True)
def next_rows(begin, end, cells, columns, scale, row, lines, edge, state, kept, places, local, sums):
    """Bring `state` from row `begin` to row `end`; returns whether a line could not hold its cells.

    Args:
        begin: See above.
        end: See above.
        cells: (similarity, flat, where its row 0 begins, elements from row to row).
        columns: How many there are.
        scale: log2(e) / T.
        row: (o, e).
        lines: (powers of e, their ramp, e to the number of lanes).
        edge: (the weights of column 0 of a global path (rows + 1,), their exponents).
        state: See `first_row`.
        kept: Row i is kept in its row i - begin; or an array without rows, to keep nothing.
        places: See `first_row`.
        local: Whether paths may begin anywhere.
        sums: (lanes + 1,): in local mode the lanes of the sum over `pair` so far, and its exponent.
    """
    similarity, start, step = cells
    ways, below, exponents = state
    opening, extension = row
    steps, rise, whole = lines
    width, blocks = ways.shape[0], exponents.shape[0]
    lanes = width // blocks
    keep, flat = kept.shape[0] > 0, kept.reshape(-1)
    zero, one, limit = ways.dtype.type(0), ways.dtype.type(1), _reach(ways, 100)
    open_line, extend_line, scale_line = splat(opening), splat(extension), splat(scale)
    low = high = splat(one)
    trouble = False
    for i in range(begin, end):
        at, slot = start + i * step, i + 1 - begin
        if local:
            held, beside = exponents[0], zero
            corner = power_of_two(ways, -held)
        else:
            corner, held = edge[0][i], edge[1][i]
            beside = opening * (opening if i == 0 else corner * extension)
        for block in range(blocks):
            place, mine = block * lanes, exponents[block]
            count = min(lanes, columns - place)
            if count == lanes:
                weight = exp2(mul(read(similarity, at + place), scale_line))
            else:
                found = read_some(similarity, at + place, count, ways.dtype.type(-np.inf))
                weight = exp2(mul(found, scale_line))
            shift = one
            if mine != held:
                shift = power_of_two(ways, held - mine)
                trouble |= abs(held - mine) > limit
            old, down = read(ways, place), read(below, place)
            pair = mul(weight, enter(old, corner * shift))
            both = add(pair, down)
            inner = run_up(mul(open_line, enter(both, zero)), steps)
            carry = beside * shift
            right = fma(splat(carry), rise, inner)
            corner, held = last(old), mine
            beside = opening * last(both) + extension * last(inner) + whole * carry
            new = add(both, right)
            if local:
                new = add(new, splat(power_of_two(ways, -mine)))
                _count(sums, pair, mine)
            if keep:
                base = slot * KEPT * width + place
                write(flat, base, weight)
                write(flat, base + width, pair)
                write(flat, base + 2 * width, down)
                write(flat, base + 3 * width, right)
                places[slot, block] = mine
            low, high = lower_of(new, low), higher_of(new, high)
            next_down = fma(open_line, add(pair, right), mul(extend_line, down))
            write(ways, place, new)
            write(below, place, next_down)
            moved = exponent_of(ways[place + count - 1])
            if moved > MOVED or moved < -MOVED:
                back = splat(power_of_two(ways, -moved))
                write(ways, place, mul(new, back))
                write(below, place, mul(next_down, back))
                exponents[block] = mine + moved
    return trouble or _beyond_reach(low, high, ways)


@njit(nogil=True, cache=True)
def _count(sums, pair, exponent):
    """Add the lanes of `pair`, which has this exponent, to `sums`."""
    lanes = sums.shape[0] - 1
    held = np.int64(sums[lanes])
    if exponent > held:
        write(sums, 0, mul(read(sums, 0), splat(power_of_two(sums, held - exponent))))
        sums[lanes] = held = exponent
    write(sums, 0, fma(pair, splat(power_of_two(sums, exponent - held)), read(sums, 0)))


@njit(nogil=True, cache=True)
def last_row(state, powers_of, columns, local):
    """Set `state` to what lies beyond the last row; returns (what enters the last line, its exponent).

    `state` is (w pair of the row below (width,), its down (width,), exponents (blocks,)). The end of a global
    path is a pair of weight 1 beyond the last cell.
    """
    pairs, below, exponents = state
    log_open, log_extend = powers_of
    lanes = pairs.shape[0] // exponents.shape[0]
    pairs[:] = 0
    below[:] = 0
    exponents[:] = 0
    if local:
        return pairs.dtype.type(0)
    for block in range(exponents.shape[0] - 1):  # the last one holds the end itself
        letters = columns - 1 - block * lanes
        exponents[block] = np.int64(np.floor(log_open + (letters - 1) * log_extend))
    if columns < pairs.shape[0]:
        pairs[columns] = 1
        return pairs.dtype.type(0)
    return pairs.dtype.type(1)


@njit(nogil=True, cache=True)
def rows_before(
    end, begin, enters, columns, row, lines, margin, edge, state, kept, places, slot, local, target, factor,
    counts,
):  # fmt: skip
    """Bring `state` from row end + 1 to row `begin`, and take the averages of these rows.

    Args:
        end: See above.
        begin: See above; row 0 has no averages of its own, but gaps begin there.
        enters: What enters the last line of row `end` (see `last_row`).
        columns: How many there are.
        row: (o, e).
        lines: (powers of e, their falling ramp, ones beyond the last column).
        margin: (2,) float64: in global mode down at column 0 of row end + 1, its exponent; brought on, too.
        edge: See `next_rows`.
        state: See `last_row`.
        kept: The rows as `next_rows` kept them.
        places: Their exponents.
        slot: Row i is in row i - slot of `kept`.
        local: Whether paths may end anywhere.
        target: (array, flat, where row 0 of the averages begins, elements from row to row).
        factor: (what they are multiplied by, its exponent).
        counts: (2,) float64: the sums over opened gaps (without o) and extended ones (without e), added to.

    Returns:
        Whether a line could not hold its cells.
    """
    out, start, step = target
    pairs, below, exponents = state
    opening, extension = row
    steps, fall, beyond = lines
    width, blocks, flat = pairs.shape[0], exponents.shape[0], kept.reshape(-1)
    lanes = width // blocks
    zero, scaled, lift = pairs.dtype.type(0), factor[0], factor[1]
    limit = _reach(pairs, 100)
    open_line, extend_line = splat(opening), splat(extension)
    low = high = splat(pairs.dtype.type(1))
    trouble = False
    for i in range(end, begin - 1, -1):
        to = start + (i - 1) * step
        opened, extended = splat(zero), splat(zero)
        after, held = zero, exponents[blocks - 1]  # right of the cell beside
        for block in range(blocks - 1, -1, -1):
            place, mine = block * lanes, exponents[block]
            count = min(lanes, columns - place)
            shift = power_of_two(pairs, held - mine)
            trouble |= abs(held - mine) > limit
            base = (i - slot) * KEPT * width + place
            old, old_down = read(pairs, place), read(below, place)
            on = enter_last(old, enters * shift)
            gapped = fma(open_line, old_down, on)
            inner = run_down(gapped, steps)
            carry = after * shift
            right = fma(splat(carry * extension), fall, inner)
            beside = enter_last(right, carry)
            enters, held, after = first(old), mine, first(right)
            pair = fma(open_line, beside, gapped)
            down = fma(open_line, beside, fma(extend_line, old_down, on))
            if local:
                pair = add(pair, splat(power_of_two(pairs, -mine)))
            share = splat(scaled * power_of_two(pairs, places[i - slot, block] + mine + lift))
            weight, had = read(flat, base), mul(read(flat, base + width), share)
            had_down = mul(read(flat, base + 2 * width), share)
            had_right = mul(read(flat, base + 3 * width), share)
            opened = fma(add(had, had_right), old_down, fma(add(had, had_down), beside, opened))
            extended = fma(had_down, old_down, fma(had_right, beside, extended))
            inside = pair
            if count == lanes:
                if i > 0:
                    write(out, to + place, mul(had, pair))
            else:
                inside = add(pair, beyond)
                if i > 0:
                    write_some(out, to + place, mul(had, pair), count)
            low, high = lower_of(inside, low), higher_of(inside, high)
            next_pair = mul(weight, pair)
            write(pairs, place, next_pair)
            write(below, place, down)
            moved = exponent_of(first(pair))
            if moved > MOVED or moved < -MOVED:
                back = splat(power_of_two(pairs, -moved))
                write(pairs, place, mul(next_pair, back))
                write(below, place, mul(down, back))
                exponents[block] = mine + moved
        counts[0] += total(opened)
        counts[1] += total(extended)
        if not local:
            share = scaled * edge[0][i] * power_of_two(counts, edge[1][i] + held + lift)
            old_margin = margin[0] * power_of_two(counts, np.int64(margin[1]) - held)
            counts[0] += share * after if i > 0 else share * (after + old_margin)
            counts[1] += share * old_margin if i > 0 else 0.0
            margin[0], margin[1] = enters + extension * old_margin + opening * after, held
            trouble |= share > 1e300
        enters = zero
    return trouble or _beyond_reach(low, high, pairs)


@njit(nogil=True, cache=True)
def _beyond_reach(low, high, like):
    """Whether cells lie so far from the last of their line that products of two of them may be lost."""
    return not (
        least(low) > power_of_two(like, -_reach(like, 100))
        and greatest(high) < power_of_two(like, _reach(like, 40))
    )


@njit(nogil=True, cache=True)
def _reach(like, exponent):
    """An exponent that float32 can hold, or as much of float64's range."""
    return exponent if like.itemsize == 4 else 8 * exponent
