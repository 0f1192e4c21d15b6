"""Which edits a copy of a genome carries, and which of them a window sees.

The lists of edits are those of `biolayers.kernels.numba.splice.Pool`; indices are trusted.
"""

from numba import njit

from biolayers.kernels.numba.splice import shares, size_of


@njit(nogil=True, cache=True)
def extents(first, last, pool, width, backward, edits, start, stop, skip, counts):
    """Find which part of the reference rows read, and which edits they see.

    A row begins at the start of its interval, or, read backward, at its end, and takes letters until it has
    `width` of them or comes to the other side.

    Args:
        first: Where this share of the rows begins.
        last: And ends.
        pool: A `Pool`.
        width: How many letters a row has at most.
        backward: (rows,) bool: whether letters are counted from the end.
        edits: (2, rows) int64: where the row's list begins in `applied` and ends; becomes the part of it that
            touches the row.
        start: (rows,) int64: the start of each interval, or that of the contig; of rows that are read
            backward it becomes where reading begins.
        stop: (rows,) int64: the end likewise, for the other rows.
        skip: (rows,) int64: becomes how many letters to leave out at the start.
        counts: (rows,) int64: becomes how many letters each row has.
    """
    for i in range(first, last):
        skip[i] = 0
        if start[i] >= stop[i]:
            edits[1, i] = edits[0, i]
            counts[i] = 0
        elif backward[i]:
            _reach_back(i, pool, width, edits, start, stop, skip, counts)
        else:
            _reach_on(i, pool, width, edits, start, stop, counts)


@njit(nogil=True, cache=True)
def _reach_on(i, pool, width, edits, start, stop, counts):
    """Follow a row from its start on."""
    at, end, room = start[i], stop[i], width
    k = edits[0, i] = _first_after(pool, edits[0, i], edits[1, i], at)
    while k < edits[1, i] and room > 0:
        edit = pool.applied[k]
        begin = pool.start[edit]
        if begin > end or begin - at >= room:
            break
        room -= max(0, begin - at)
        at = max(at, begin)
        placed, loose = shares(begin, pool.stop[edit], size_of(pool, edit), at, end)
        room -= placed + loose
        at = max(at, pool.stop[edit])
        k += 1
    edits[1, i] = k
    counts[i] = min(width, width - room + max(0, end - at))
    stop[i] = min(end, max(at + max(0, room), start[i] + 1))


@njit(nogil=True, cache=True)
def _reach_back(i, pool, width, edits, start, stop, skip, counts):
    """Follow a row from its end back."""
    at, room = stop[i], width
    low = _first_after(pool, edits[0, i], edits[1, i], start[i])
    k = edits[1, i] = _first_beyond(pool, low, edits[1, i], at)
    while k > low and room > 0:
        edit = pool.applied[k - 1]
        begin, end = pool.start[edit], pool.stop[edit]
        if at - end >= room:
            break
        room -= max(0, at - end)
        placed, loose = shares(begin, end, size_of(pool, edit), max(begin, start[i]), stop[i])
        room -= placed + loose
        at = begin
        k -= 1
    edits[0, i] = k
    counts[i] = min(width, width - room + max(0, at - start[i]))
    skip[i] = max(0, -room)
    start[i] = max(start[i], at - max(0, room))


@njit(nogil=True, cache=True)
def _first_after(pool, low, high, position):
    """The first edit of a list that reaches beyond a position; at position 0 an insert there counts, too."""
    while low < high:
        middle = (low + high) // 2
        stop = pool.stop[pool.applied[middle]]
        if stop > position or position == 0:
            high = middle
        else:
            low = middle + 1
    return low


@njit(nogil=True, cache=True)
def _first_beyond(pool, low, high, position):
    """The first edit of a list that changes nothing before a position; an insert at it does."""
    while low < high:
        middle = (low + high) // 2
        edit = pool.applied[middle]
        if pool.start[edit] < position or pool.stop[edit] == position:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, cache=True)
def choose(first, last, pool, order, contigs, carried, chosen, applied, skipped):
    """List the edits that each copy of a genome carries; of those that overlap, the first counts.

    Args:
        first: Where this share of the copies begins.
        last: And ends.
        pool: A `Pool`, whose `applied` is not looked at.
        order: (n,) int64: the edits by contig and start.
        contigs: (contigs + 1,) int64: where each contig begins in `order`.
        carried: (copies, n) bool: which edits a copy carries.
        chosen: (copies, contigs + 1) int64: becomes where the list of each contig begins in `applied`, if
            `applied` is empty counted from 0, else from the number that stands first.
        applied: (k,) int64: becomes the lists; empty to count only.
        skipped: (copies,) int64: becomes how many edits overlap one before them.
    """
    for copy in range(first, last):
        count = chosen[copy, 0] if applied.shape[0] else 0
        skipped[copy] = 0
        for contig in range(contigs.shape[0] - 1):
            chosen[copy, contig] = count
            end, insert = -1, -1
            for k in range(contigs[contig], contigs[contig + 1]):
                edit = order[k]
                if not carried[copy, edit]:
                    continue
                start, stop = pool.start[edit], pool.stop[edit]
                if start < end or (start == stop and start == insert):
                    skipped[copy] += 1
                    continue
                if applied.shape[0]:
                    applied[count] = edit
                count += 1
                end = stop
                insert = start if start == stop else -1
        chosen[copy, contigs.shape[0] - 1] = count
