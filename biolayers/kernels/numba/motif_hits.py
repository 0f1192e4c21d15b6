"""Sites that score at least a threshold: bytes rule nearly all out, and what is left is scored in float64.

A motif's *deficit* at a site is its highest possible score less the score there. Deficits of words of a few
letters are rounded down to bytes and added with saturation, so that a sum never exceeds the scaled deficit of
the site: a site whose sum is above the scaled deficit of the threshold cannot reach the threshold, and every
other one is scored exactly. No site is missed, whatever the weights.

The sequence is worked on in blocks of `LANES` stretches of `ROWS` letters each, one lane per stretch, so that
all vector loads are aligned and each word is computed once for all motifs.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba.motif_lanes import (
    AT_ONCE,
    ENTRIES,
    LANES,
    WORD,
    add_found,
    any_within,
    lowest,
    nothing,
    put,
    within,
)
from shared.simd import address

ROWS = 256  # letters of a lane's stretch: the words of a block stay in the first-level cache
BLOCK = LANES * ROWS
BOUND = 254  # the scaled deficit of every threshold; 255 is what saturated sums show


@njit(nogil=True, cache=True)
def runs(tokens, edges, letters, out):
    """out[p] = how many tokens below `letters` follow each other from p on in their row, at most 255.

    tokens (n,) uint8; row i lies between edges[i] and edges[i + 1] (int64).
    """
    for row in range(edges.shape[0] - 1):
        run = 0
        for p in range(edges[row + 1] - 1, edges[row] - 1, -1):
            run = min(run + 1, 255) if tokens[p] < letters else 0
            out[p] = run


@njit(nogil=True, cache=True)
def tabulate(start, stop, weights, widths, thresholds, tables):
    """tables[s, g, code] = the scaled deficit of a word of letters g * WORD ..., rounded down; rows s.

    weights (s, 4, w) float64, thresholds (s,) float64, tables (s, groups, LANES) uint8. A threshold above the
    highest score gives a table that no site can pass.
    """
    groups = tables.shape[1]
    best = np.empty(weights.shape[2])
    for s in range(start, stop):
        highest = 0.0
        for j in range(widths[s]):
            best[j] = max(weights[s, 0, j], weights[s, 1, j], weights[s, 2, j], weights[s, 3, j])
            highest += best[j]
        deficit = highest - thresholds[s]
        room = 1e-9 * max(1.0, abs(highest))  # what rounding in these sums can amount to, and far more
        scale = BOUND / max(deficit + room, room)
        for g in range(groups):
            for code in range(LANES):
                lost = 0.0
                for t in range(WORD):
                    j = g * WORD + t
                    if j < widths[s]:
                        lost += best[j] - weights[s, (code % ENTRIES) // 4 ** (WORD - 1 - t) % 4, j]
                tables[s, g, code] = 255 if deficit < -room else int(min(255.0, lost * scale))


@njit(nogil=True, cache=True)
def find(start, stop, blocks, tokens, run, tables, widths, weights, thresholds, counts, motif, place, score):
    """The sites of plain letters in each of `blocks`, up to the room there is; rows are blocks.

    counts[row] says how many there are, even where the room is not enough; motif, place and score
    (blocks, room) describe them. A motif is one strand of one, and run comes from `runs`.
    """
    groups = tables.shape[1]
    lines = ROWS + groups * WORD
    space = np.empty(lines * LANES + 64, np.uint8)
    words = space[-address(space) % 64 :]
    flat = tables.reshape(-1)
    sums = np.empty(AT_ONCE * LANES, np.uint8)
    for item in range(start, stop):
        block = blocks[item]
        stripe(tokens, block * BLOCK, words, lines)
        found = 0
        for s in range(tables.shape[0]):
            used = (widths[s] + WORD - 1) // WORD
            for row in range(0, ROWS, AT_ONCE):
                total = nothing()
                for g in range(used):
                    total = add_found(flat, (s * groups + g) * LANES, words, (row + g * WORD) * LANES, total)
                if any_within(total, np.uint8(BOUND)):
                    put(sums, total)
                    found = collect(
                        sums, block * BLOCK + row, tokens, run, s, widths[s], weights, thresholds[s],
                        found, motif[item], place[item], score[item],
                    )  # fmt: skip
        counts[item] = found


@njit(nogil=True, cache=True)
def collect(sums, first, tokens, run, s, width, weights, threshold, found, motif, place, score):
    """Score the sites that the bytes do not rule out; how many were found so far, these included."""
    for i in range(AT_ONCE):
        bits = within(sums, i * LANES, np.uint8(BOUND))
        while bits != 0:
            at = first + lowest(bits) * ROWS + i
            bits &= bits - np.uint64(1)
            if at < run.shape[0] and run[at] >= width:
                total = 0.0
                for j in range(width):
                    total += weights[s, tokens[at + j], j]
                if total >= threshold:
                    if found < motif.shape[0]:
                        motif[found] = s
                        place[found] = at
                        score[found] = total
                    found += 1
    return found


@njit(nogil=True, cache=True)
def stripe(tokens, first, words, lines):
    """words[r * LANES + lane] = the word at `first + lane * ROWS + r`; letters beyond the end count as 0."""
    mask = np.uint8(ENTRIES - 1)
    for lane in range(LANES):
        at = first + lane * ROWS
        word = np.uint8(0)
        for r in range(-(WORD - 1), lines):
            p = at + r + WORD - 1
            letter = tokens[p] & np.uint8(3) if p < tokens.shape[0] else np.uint8(0)
            word = np.uint8((word << np.uint8(2)) | letter) & mask
            if r >= 0:
                words[r * LANES + lane] = word


@njit(nogil=True, cache=True)
def unclear(tokens, plain, legal, values, widths, thresholds):
    """The sites with ambiguous letters: (motif, place, score), each (n,).

    plain and legal are what `runs` gives for plain letters and for all tokens with a value; values
    (s, tokens, w) are scores by token. Only places near an ambiguous letter are looked at, one by one.
    """
    motif, place, score = [], [], []
    widest = widths.max()
    for at in range(tokens.shape[0]):
        if plain[at] < legal[at] and plain[at] < widest:
            for s in range(widths.shape[0]):
                if plain[at] < widths[s] <= legal[at]:
                    total = 0.0
                    for j in range(widths[s]):
                        total += values[s, tokens[at + j], j]
                    if total >= thresholds[s]:
                        motif.append(s)
                        place.append(at)
                        score.append(total)
    return np.array(motif, np.int64), np.array(place, np.int64), np.array(score, np.float64)


@njit(nogil=True, cache=True)
def tally(edges, limits, run):
    """How many places have each run: of each row the places before its limit, (256,) int64."""
    out = np.zeros(256, np.int64)
    for row in range(edges.shape[0] - 1):
        for at in range(edges[row], min(edges[row + 1], edges[row] + limits[row])):
            out[run[at]] += 1
    return out
