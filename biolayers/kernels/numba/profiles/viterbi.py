"""The best path through a profile HMM: the recursion in logarithms, with maxima, and the way back.

Columns lie as in `forward`, the true value of a delete state being max(D, RUN + received). All rows are kept;
on the way back each state looks for the way in that made its value.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba.profiles.forward import room
from biolayers.kernels.numba.profiles.lanes import larger, scan_best, top, up_best
from biolayers.kernels.numba.profiles.tables import (
    ENTRY,
    EXIT,
    II,
    INTO_DD,
    INTO_DM,
    INTO_IM,
    INTO_MD,
    INTO_MM,
    MI,
    RUN,
)
from biolayers.ops.hmm_paths import FLOOR
from shared.simd import add, load, splat, store

IMPOSSIBLE = FLOOR / 2
AT_N, AT_J, AT_C = range(3)  # the first states, then the nodes' match states, then their insert states
BEST_N, BEST_J, BEST_C, BEST_E, BEST_B = range(5)  # columns of `outside`


@njit(nogil=True, cache=True)
def climb(weights, best, matches, inserts, lanes, width, rows, source, target, begin, symbol):
    """Column t + 1 (at `target`) from column t (at `source`) and B; returns E."""
    received = load(rows, source + 3 * width)
    last = width - lanes
    m_before = up_best(load(rows, source + last))
    i_before = up_best(load(rows, source + width + last))
    d_before = up_best(
        larger(add(load(weights, RUN * width + last), received), load(rows, source + 2 * width + last))
    )
    begins = splat(weights.dtype.type(begin))
    nothing = splat(weights.dtype.type(-np.inf))
    m, d, leaving = nothing, nothing, nothing
    for q in range(0, width, lanes):
        old_m, old_i = load(rows, source + q), load(rows, source + width + q)
        old_d = larger(add(load(weights, RUN * width + q), received), load(rows, source + 2 * width + q))
        if q > 0:
            d = larger(add(m, load(weights, INTO_MD * width + q)), add(d, load(weights, INTO_DD * width + q)))
        m = larger(
            add(m_before, load(weights, INTO_MM * width + q)), add(begins, load(weights, ENTRY * width + q))
        )
        m = larger(
            larger(m, add(i_before, load(weights, INTO_IM * width + q))),
            add(d_before, load(weights, INTO_DM * width + q)),
        )
        m = add(m, load(matches, symbol * width + q))
        i = larger(add(old_m, load(weights, MI * width + q)), add(old_i, load(weights, II * width + q)))
        i = add(i, load(inserts, symbol * width + q))
        store(rows, target + q, m)
        store(rows, target + width + q, i)
        store(rows, target + 2 * width + q, d)
        leaving = larger(add(load(weights, EXIT * width + q), larger(m, d)), leaving)
        m_before, i_before, d_before = old_m, old_i, old_d
    given = larger(
        add(up_best(m), load(weights, INTO_MD * width)), add(up_best(d), load(weights, INTO_DD * width))
    )
    received = scan_best(best, 0, given)
    store(rows, target + 3 * width, received)
    for q in range(0, width, lanes):
        d = larger(add(load(weights, RUN * width + q), received), load(rows, target + 2 * width + q))
        leaving = larger(add(load(weights, EXIT * width + q), d), leaving)
    return top(leaving)


@njit(nogil=True, cache=True)
def ascend(model, tokens, length, flank, rows, outside):
    """All columns of one sequence, one row each; the score of its best path."""
    weights, best, matches, inserts, lanes, width = model
    row, none = 3 * width + lanes, len(matches) // width - 1
    rows[:row] = -np.inf
    outside[0] = -np.inf
    outside[0, BEST_N], outside[0, BEST_B] = 0.0, flank[0, 1]
    for t in range(length):
        e = climb(
            weights, best, matches, inserts, lanes, width, rows, t * row, (t + 1) * row,
            outside[t, BEST_B], min(tokens[t], none),
        )  # fmt: skip
        outside[t + 1, BEST_E] = e
        outside[t + 1, BEST_N] = outside[t, BEST_N] + flank[0, 0]
        outside[t + 1, BEST_J] = max(outside[t, BEST_J] + flank[2, 0], e + flank[1, 0])
        outside[t + 1, BEST_C] = max(outside[t, BEST_C] + flank[3, 0], e + flank[1, 1])
        outside[t + 1, BEST_B] = max(
            outside[t + 1, BEST_N] + flank[0, 1], outside[t + 1, BEST_J] + flank[2, 1]
        )
    return outside[length, BEST_C] + flank[3, 1]


@njit(nogil=True, cache=True)
def opener(weights, lanes, width, rows, at, k):
    """The match state that opened the best run of deletes up to node k: it beats every nearer one."""
    depth = width // lanes
    run, best, found = 0.0, -np.inf, k - 1
    for node in range(k, 0, -1):
        spot, before = node % depth * lanes + node // depth, (node - 1) % depth * lanes + (node - 1) // depth
        value = rows[at + before] + weights[INTO_MD * width + spot] + run
        if value > best:
            best, found = value, node - 1
        run += weights[INTO_DD * width + spot]
        if run == -np.inf:
            break
    return best, found


@njit(nogil=True, cache=True)
def leaver(weights, lanes, width, nodes, rows, at):
    """The match state from which the best path leaves the model at a column, perhaps through deletes."""
    depth, best, found = width // lanes, -np.inf, 0
    run, opened = -np.inf, 0  # the best delete state of the node, and the match state that opened it
    for k in range(nodes):
        spot = k % depth * lanes + k // depth
        if k > 0:
            before = (k - 1) % depth * lanes + (k - 1) // depth
            fresh, run = (
                rows[at + before] + weights[INTO_MD * width + spot],
                run + weights[INTO_DD * width + spot],
            )
            if fresh >= run:
                run, opened = fresh, k - 1
        for value, match in ((np.float64(rows[at + spot]), k), (run, opened)):
            if value + weights[EXIT * width + spot] > best:
                best, found = value + weights[EXIT * width + spot], match
    return found


@njit(nogil=True, cache=True)
def into_match(weights, lanes, width, nodes, rows, at, k, begin):
    """From which state at column t (its row at `at`) the best path came to match state k; -1 for B."""
    depth = width // lanes
    spot = k % depth * lanes + k // depth
    value, found = begin + weights[ENTRY * width + spot], -1
    if k > 0:
        before = (k - 1) % depth * lanes + (k - 1) // depth
        way = rows[at + before] + weights[INTO_MM * width + spot]
        if way > value:
            value, found = way, 3 + k - 1
        way = rows[at + width + before] + weights[INTO_IM * width + spot]
        if way > value:
            value, found = way, 3 + nodes + k - 1
        if k > 1:
            run, match = opener(weights, lanes, width, rows, at, k - 1)
            if run + weights[INTO_DM * width + spot] > value:
                found = 3 + match
    return found


@njit(nogil=True, cache=True)
def descend(model, nodes, length, flank, rows, outside, states, passes):
    """The states of the best path, from the end; passes are numbered from 0 at the beginning."""
    weights, _, _, _, lanes, width = model
    row, depth = 3 * width + lanes, width // lanes
    state, number = AT_C, 0
    for t in range(length, 0, -1):
        j_stays = outside[t - 1, BEST_J] + flank[2, 0] >= outside[t, BEST_E] + flank[1, 0]
        c_stays = outside[t - 1, BEST_C] + flank[3, 0] >= outside[t, BEST_E] + flank[1, 1]
        if (state == AT_J and not j_stays) or (state == AT_C and not c_stays):
            state = 3 + leaver(weights, lanes, width, nodes, rows, t * row)
        states[t - 1] = state
        passes[t - 1] = number if state >= 3 else -1
        if state >= 3 + nodes:
            k, at = state - 3 - nodes, (t - 1) * row
            spot = k % depth * lanes + k // depth
            opened = rows[at + spot] + weights[MI * width + spot]
            stayed = rows[at + width + spot] + weights[II * width + spot]
            state = 3 + k if opened >= stayed else state
        elif state >= 3:
            state = into_match(
                weights, lanes, width, nodes, rows, (t - 1) * row, state - 3, outside[t - 1, BEST_B]
            )
            if state == -1:
                number += 1
                by_n = outside[t - 1, BEST_N] + flank[0, 1] >= outside[t - 1, BEST_J] + flank[2, 1]
                state = AT_N if by_n else AT_J
    for t in range(length):
        if passes[t] >= 0:
            passes[t] = number - 1 - passes[t]


@njit(nogil=True, cache=True)
def best_rows(
    first,
    stop,
    weights,
    best,
    matches,
    inserts,
    lanes,
    width,
    tokens,
    lengths,
    flanks,
    nodes,
    scores,
    states,
    passes,
):
    """The best paths of sequences `first` to `stop`."""
    model = (weights, best, matches, inserts, lanes, width)
    longest = 0
    for b in range(first, stop):
        longest = max(longest, lengths[b])
    rows = room((longest + 1) * (3 * width + lanes), lanes, weights)
    outside = np.empty((longest + 1, 5))
    for b in range(first, stop):
        states[b, :] = -1
        passes[b, :] = -1
        scores[b] = ascend(model, tokens[b], lengths[b], flanks[b], rows, outside)
        if scores[b] <= IMPOSSIBLE:
            scores[b] = -np.inf
        if scores[b] > -np.inf:
            descend(model, nodes, lengths[b], flanks[b], rows, outside, states[b], passes[b])
