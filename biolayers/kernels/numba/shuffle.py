"""The uniform k-let shuffle of many rows over any letters; `biolayers.euler` is its definition.

A node of the graph is a (k-1)-let of the stretch that is shuffled; for each node the exits that are left are
counted by letter. `shuffle4` does the same for four letters in less time, with the same results.

Loops over letters index arrays and hand none to a function: Numba would count its references each time, which
takes as long as all the rest.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba.bytes import BLOCK, load, store
from biolayers.kernels.numba.draws import below, key_of

_DIRECT = 4096  # possible nodes up to which a node is found by its code, not by hashing
_HASH = np.uint64(0x9E3779B97F4A7C15)
_FEW = 8  # letters up to which all are compared, as a branch that depends on chance costs more


@njit(nogil=True, cache=True)
def shuffle(first, last, tokens, lengths, ids, count, k, letters, seed, out):
    """Fill rows `first` to `last` of `out`.

    Args:
        first: Where this share of the rows begins.
        last: And ends.
        tokens: (n, l) uint8.
        lengths: (n,) int64: what lies beyond is copied.
        ids: (n,) uint64: the rows' numbers, for their random numbers.
        count: Copies of each row.
        k: The length of the words that are kept, at most l + 1.
        letters: Tokens from here on stay where they are; the stretches between them are shuffled.
        seed: uint64.
        out: (n * count, l) uint8: copy c of row i is `out[i * count + c]`.
    """
    for place in range(first, last):
        i = place // count
        row = out[place]
        copy_row(tokens, i, out, place)
        start, stop = next_stretch(row, 0, lengths[i], letters)
        while start < stop:
            if stop - start > k:
                key = key_of(seed, ids[i], np.uint64(place % count), np.uint64(start))
                _shuffle_stretch(row[start:stop], k, key)
            start, stop = next_stretch(row, stop, lengths[i], letters)


@njit(nogil=True, cache=True)
def copy_row(source, i, target, place):
    """Copy row i in blocks: an assignment of slices goes byte by byte."""
    width = source.shape[1]
    whole = width - width % BLOCK
    for j in range(0, whole, BLOCK):
        store(target, place * width + j, load(source, i * width + j))
    for j in range(whole, width):
        target[place, j] = source[i, j]


@njit(nogil=True, cache=True)
def next_stretch(row, start, end, letters):
    """Where the next run of tokens below `letters` begins and ends; both are `end` when there is none."""
    while start < end and row[start] >= letters:
        start += 1
    stop = start
    while stop + BLOCK <= end and _all_below(row[stop : stop + BLOCK], letters):
        stop += BLOCK
    while stop < end and row[stop] < letters:
        stop += 1
    return start, stop


@njit(nogil=True, cache=True)
def _all_below(block, letters):
    """Without an early exit, so that it runs on vectors."""
    above = np.uint8(0)
    for i in range(BLOCK):
        above |= np.uint8(block[i] >= np.uint8(letters))
    return above == 0


@njit(nogil=True, cache=True)
def _shuffle_stretch(row, k, key):
    """Shuffle a stretch in place."""
    used = np.uint64(0)
    edges = row.shape[0] - k + 1
    rank, letter_of = _present(row)
    path, nodes = _nodes_along(row, rank, k, letter_of.shape[0])
    left = np.zeros((nodes, letter_of.shape[0]), np.int32)  # exits of each node by letter
    after = np.empty((nodes, letter_of.shape[0]), np.uint32)  # where they lead
    total = np.zeros(nodes, np.int64)
    for e in range(edges):
        letter = rank[row[k - 1 + e]]
        left[path[e], letter] += 1
        after[path[e], letter] = path[e + 1]
        total[path[e]] += 1
    last, used = _last_exits(left, after, total, path[edges], key, used)
    for v in range(nodes):
        if v != path[edges]:
            left[v, last[v]] -= 1
            total[v] -= 1
    _leave(left, after, total, last, path[0], letter_of, row[k - 1 :], key, used)


@njit(nogil=True, cache=True)
def _leave(left, after, total, last, v, letter_of, steps, key, used):
    """Walk from node `v` through all exits, and write down their letters.

    Places are unsigned, since Numba asks of others whether they are negative.
    """
    letters = letter_of.shape[0]
    few = letters <= _FEW
    for e in range(steps.shape[0]):
        letter = np.int64(last[v])
        if total[v]:
            choice, used = below(total[v], key, used)
            letter, passed = 0, left[v, 0]
            if few:
                for r in range(1, letters):
                    letter += choice >= passed
                    passed += left[v, r]
            else:
                while choice >= passed:
                    letter += 1
                    passed += left[v, letter]
            left[v, np.uint32(letter)] -= 1
            total[v] -= 1
        v = after[v, np.uint32(letter)]
        steps[e] = letter_of[letter]


@njit(nogil=True, cache=True)
def _last_exits(left, after, total, root, key, used):
    """The letter of each node's last exit, and how many random numbers are used."""
    last = np.zeros(total.shape[0], np.uint32)
    reached = np.zeros(total.shape[0], np.bool_)
    reached[root] = True
    for start in range(total.shape[0]):
        v = start
        while not reached[v]:
            choice, used = below(total[v], key, used)
            last[v] = _letter_at(left[v], choice)
            v = after[v, last[v]]
        v = start
        while not reached[v]:
            reached[v] = True
            v = after[v, last[v]]
    return last, used


@njit(nogil=True, cache=True)
def _letter_at(counts, choice):
    """The letter of exit number `choice`, counted through the letters."""
    letter = 0
    while choice >= counts[letter]:
        choice -= counts[letter]
        letter += 1
    return letter


@njit(nogil=True, cache=True)
def _present(row):
    """The rank of each token among those that occur (256,) and the token of each rank."""
    rank = np.zeros(256, np.uint32)
    for i in range(row.shape[0]):
        rank[row[i]] = 1
    letter_of = np.flatnonzero(rank).astype(np.uint8)
    for r in range(letter_of.shape[0]):
        rank[letter_of[r]] = r
    return rank, letter_of


@njit(nogil=True, cache=True)
def _nodes_along(row, rank, k, letters):
    """The node of each (k-1)-let, numbered as they appear: (edges + 1,) uint32, and how many there are."""
    count = row.shape[0] - k + 2
    possible = 1
    for _ in range(k - 1):
        possible = min(possible * letters, _DIRECT + 1)
    hashed = possible > _DIRECT
    places = 16 if hashed else possible
    while hashed and places < 2 * count:
        places *= 2
    table = np.full(places, -1, np.int32)
    origin = np.empty(min(places, count), np.int64)  # where each node appears first
    path = np.empty(count, np.uint32)
    nodes = 0
    code, weight = 0, 1  # of the word at i, and of its first letter
    for j in range(k - 1):
        code = code * letters + np.int64(rank[row[j]])
        weight *= letters if j else 1
    for i in range(count):
        place = code
        if hashed:
            place = _find(row, i, k - 1, table, origin)
        elif i + 1 < count:
            gone = np.int64(rank[row[i]]) * weight if k > 1 else 0
            code = (code - gone) * letters + np.int64(rank[row[i + k - 1]]) if k > 1 else 0
        if table[place] < 0:
            table[place] = nodes
            origin[nodes] = i
            nodes += 1
        path[i] = table[place]
    return path, nodes


@njit(nogil=True, cache=True)
def _find(row, start, length, table, origin):
    """The place in the hash table of the word at `start`, or the free place where it belongs."""
    code = np.uint64(0)
    for j in range(length):
        code = (code + np.uint64(row[start + j]) + np.uint64(1)) * _HASH
    place = np.int64(code >> np.uint64(33)) & (table.shape[0] - 1)
    while table[place] >= 0 and not _same(row, origin[table[place]], start, length):
        place = (place + 1) & (table.shape[0] - 1)
    return place


@njit(nogil=True, cache=True)
def _same(row, a, b, length):
    same = True
    for j in range(length):
        same &= row[a + j] == row[b + j]
    return same
