"""The transform of a line of channels: its stages, in an order that keeps to the caches.

A block is cut down to the last frequency before the next one is begun, so that small blocks stay in L1 and
the larger ones in L2, whatever the size of the whole.
"""

from numba import njit

from biolayers.kernels.numba.fourier.butterflies import gather, gather_bare, spread, spread_bare
from biolayers.kernels.numba.simd import LINE_BYTES

_LEAF = (16 << 10) // (2 * LINE_BYTES)  # points that are brought to the end stage by stage: half of L1


@njit(nogil=True, cache=True)
def to_frequencies(data, m, stages, roots):
    """Transform m points in place; the frequencies come in the order of the plan."""
    leaf, size = _leaf(m, stages)
    for start in range(0, m, size):
        for i in range(leaf):
            if start % (stages[i, 0] * stages[i, 1]) == 0:
                _cut(data, start, stages[i, 0], stages[i, 1], roots, stages[i, 2])
        for i in range(leaf, len(stages)):
            radix, step, spot = stages[i]
            if step == 1 and radix % 2 == 0:
                _cut_bare(data, start, start + size, radix)
            else:
                for at in range(start, start + size, radix * step):
                    _cut(data, at, radix, step, roots, spot)


@njit(nogil=True, cache=True)
def from_frequencies(data, m, stages, roots):
    """The way back, without the factor 1 / m."""
    leaf, size = _leaf(m, stages)
    for start in range(0, m, size):
        for i in range(len(stages) - 1, leaf - 1, -1):
            radix, step, spot = stages[i]
            if step == 1 and radix % 2 == 0:
                _join_bare(data, start, start + size, radix)
            else:
                for at in range(start, start + size, radix * step):
                    _join(data, at, radix, step, roots, spot)
        end = start + size
        for i in range(leaf - 1, -1, -1):
            whole = stages[i, 0] * stages[i, 1]
            if end % whole == 0:
                _join(data, end - whole, stages[i, 0], stages[i, 1], roots, stages[i, 2])


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _leaf(m, stages):
    """The first stage whose blocks are small, and their size."""
    size = m
    for i in range(len(stages)):
        if size <= _LEAF:
            return i, size
        size = stages[i, 1]
    return len(stages), size


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _cut(data, start, radix, step, roots, spot):
    if radix == 4:
        for j in range(step):
            spread(data, start + j, step, roots, spot + 6 * j, (0,) * 4)
    elif radix == 3:
        for j in range(step):
            spread(data, start + j, step, roots, spot + 4 * j, (0,) * 3)
    else:
        for j in range(step):
            spread(data, start + j, step, roots, spot + 8 * j, (0,) * 5)


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _join(data, start, radix, step, roots, spot):
    if radix == 4:
        for j in range(step):
            gather(data, start + j, step, roots, spot + 6 * j, (0,) * 4)
    elif radix == 3:
        for j in range(step):
            gather(data, start + j, step, roots, spot + 4 * j, (0,) * 3)
    else:
        for j in range(step):
            gather(data, start + j, step, roots, spot + 8 * j, (0,) * 5)


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _cut_bare(data, start, stop, radix):
    if radix == 8:
        for at in range(start, stop, 8):
            spread_bare(data, at, 1, (0,) * 8)
    elif radix == 4:
        for at in range(start, stop, 4):
            spread_bare(data, at, 1, (0,) * 4)
    else:
        for at in range(start, stop, 2):
            spread_bare(data, at, 1, (0,) * 2)


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _join_bare(data, start, stop, radix):
    if radix == 8:
        for at in range(start, stop, 8):
            gather_bare(data, at, 1, (0,) * 8)
    elif radix == 4:
        for at in range(start, stop, 4):
            gather_bare(data, at, 1, (0,) * 4)
    else:
        for at in range(start, stop, 2):
            gather_bare(data, at, 1, (0,) * 2)
