"""Permutations (k = 1) and dinucleotide shuffles (k = 2) over four letters: `shuffle`, sixteen at a time.

Each lane of a vector walks a stretch of its own, with the random numbers and so the results of `shuffle`.
The exits that are left of the four nodes are four words per lane (one for k = 1) that stay in registers; see
`lanes` for what is in a word.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba import lanes as v
from biolayers.kernels.numba.draws import below, key_of
from biolayers.kernels.numba.lanes import LANES
from biolayers.kernels.numba.shuffle import copy_row, next_stretch
from shared import simd

LONGEST = (1 << 15) - 1  # letters of a row, so that a count has 15 bits and one to compare in
MOST = 2  # the largest k

_ONES, _TOP = np.uint64(v.ONES), np.uint64(v.TOP)
_1, _3, _15, _16, _32, _48 = (np.uint64(number) for number in (1, 3, 15, 16, 32, 48))
# The rows of a batch's words: the sums of four nodes, and so on
_LAST, _KEY, _USED, _NODE = range(4, 8)


@njit(nogil=True, cache=True)
def shuffle(first, last, tokens, lengths, ids, count, k, seed, out):
    """Fill rows `first` to `last` of `out`; arguments as in `shuffle.shuffle`, with 4 letters."""
    words = np.zeros((8, LANES), np.uint64)
    where = np.zeros((2, LANES), np.int64)  # the place in `out` to fill from, and how many
    steps = np.empty((tokens.shape[1] + 4) * LANES, np.uint8)  # the letters of each step, lane by lane
    pairs = np.empty(tokens.shape[1] + 64, np.uint8)
    place = first
    start = 0
    while place < last:
        filled = 0
        while place < last and filled < LANES:
            i = place // count
            if start == 0:
                copy_row(tokens, i, out, place)
            start, stop = next_stretch(out[place], start, lengths[i], 4)
            if stop - start > k:
                key = key_of(seed, ids[i], np.uint64(place % count), np.uint64(start))
                _plan(out[place], start, stop, k, key, words, filled, pairs)
                where[0, filled] = place * out.shape[1] + start + k - 1
                where[1, filled] = stop - start - k + 1
                filled += 1
            start = stop
            if stop >= lengths[i]:
                place += 1
                start = 0
        most = 0
        for j in range(filled):
            most = max(most, where[1, j])
        _walk(words, most, np.uint64(_3 if k == 2 else 0), steps)
        _write(steps, where, filled, most, out.reshape(-1))


@njit(nogil=True, cache=True)
def _plan(row, start, stop, k, key, words, j, pairs):
    """Put into lane j the exits of every node and the last ones."""
    edges = stop - start - k + 1
    for i in range(edges):
        pairs[i] = row[start + i]
    if k == 2:
        for i in range(edges):
            pairs[i] = (pairs[i] << 2) | row[start + i + 1]
    pairs[edges : edges + 64] = 255
    nodes = 4 if k == 2 else 1
    for node in range(nodes):
        sums = np.uint64(0)
        for letter in range(4):
            found = np.uint64(0)
            for i in range(0, edges, 64):
                found += v.count_equal(pairs, i, np.uint8(4 * node + letter))
            sums += found * (_ONES << (_16 * np.uint64(letter)))
        words[node, j] = sums
    root = np.int64(row[stop - 1]) if k == 2 else 0
    first = np.int64(row[start]) if k == 2 else 0
    words[_LAST, j], words[_USED, j] = 0, 0
    words[_KEY, j], words[_NODE, j] = key, first
    if nodes > 1:
        _choose_last(row, start, stop, root, words, j)


@njit(nogil=True, cache=True)
def _choose_last(row, start, stop, root, words, j):
    """Draw the tree of last exits, and take these out of the sums."""
    reached = np.uint64(1 << root)  # nodes as bits
    last = np.uint64(0)
    used = np.uint64(0)
    for i in range(start, stop - 1):
        if reached == 15:
            break
        node = np.uint64(row[i])
        walk = np.uint64(0)
        while not (reached >> node) & _1:
            sums = words[node, j]
            choice, used = below(sums >> _48, words[_KEY, j], used)
            letter = _letter_at(sums, np.uint64(choice))
            shift = _16 * node
            walk = (walk & ~(_3 << shift)) | (letter << shift)
            node = letter
        node = np.uint64(row[i])
        while not (reached >> node) & _1:
            letter = (walk >> (_16 * node)) & _3
            reached |= _1 << node
            last |= letter << (_16 * node)
            words[node, j] -= _ONES << (_16 * letter)
            node = letter
    words[_LAST, j] = last
    words[_USED, j] = used


@njit(nogil=True, inline="always")
def _letter_at(sums, choice):
    """How many of the sums are at most `choice`."""
    passed = (choice * _ONES + _TOP - sums) & _TOP
    return ((passed >> _15) * _ONES) >> _48


@njit(nogil=True, cache=True)
def _walk(words, most, mask, steps):
    """Advance all lanes by `most` steps; what a lane does after its end is garbage."""
    a, b, c, d = v.load(words, 0), v.load(words, LANES), v.load(words, 2 * LANES), v.load(words, 3 * LANES)
    last, keys = v.load(words, _LAST * LANES), v.load(words, _KEY * LANES)
    used, node = v.load(words, _USED * LANES), v.load(words, _NODE * LANES)
    for step in range(most):
        sums = v.pick(node, a, b, c, d)
        used = v.one_more(used, sums)
        product = v.draw(keys, used, sums)
        if v.any_doubtful(product, sums):
            product, used = _draw_again(keys, used, sums)
        letter = v.letter_of(product, sums)
        taken = v.exit_of(letter)
        a = v.without(a, node, np.uint64(0), taken)
        b = v.without(b, node, np.uint64(1), taken)
        c = v.without(c, node, np.uint64(2), taken)
        d = v.without(d, node, np.uint64(3), taken)
        letter = v.or_last(letter, node, last)
        v.store_bytes(steps, step * LANES, letter)
        node = v.masked(letter, mask)


@njit(nogil=True, cache=True)
def _draw_again(keys, used, sums):
    """The same draw number by number, as `below` does it."""
    memory = np.empty(3 * LANES, np.uint64)
    simd.store(memory, 0, keys)
    simd.store(memory, LANES, used)
    simd.store(memory, 2 * LANES, sums)
    products = np.zeros(LANES, np.uint64)
    for j in range(LANES):
        if memory[2 * LANES + j]:
            key, total = memory[j], memory[2 * LANES + j] >> _48
            choice, now = below(total, key, memory[LANES + j] - _1)
            memory[LANES + j] = now
            products[j] = np.uint64(choice) << _32
    return v.load(products, 0), v.load(memory, LANES)


@njit(nogil=True, cache=True)
def _write(steps, where, filled, most, letters):
    """Put the letters of all lanes into the flat result."""
    for step in range(0, most, 4):
        v.by_lane(steps, step * LANES)
    for j in range(filled):
        at, size = where[0, j], where[1, j]
        whole = size - size % 4
        for i in range(0, whole, 4):
            v.copy_four(letters, at + i, steps, i * LANES + 4 * j)
        for i in range(whole, size):
            letters[at + i] = steps[whole * LANES + 4 * j + i - whole]
