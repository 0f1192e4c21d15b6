"""Clusters of things that pairs connect (union-find, every cluster known by its smallest member)."""

from numba import njit


@njit(nogil=True, cache=True)
def join(parents, a, b):
    """Put the clusters of a[i] and b[i] into one, for all i, in place.

    `parents` (n,) int64 holds the smallest member of each one's cluster, before and after.
    """
    for i in range(a.shape[0]):
        left, right = _root(parents, a[i]), _root(parents, b[i])
        if left < right:
            parents[right] = left
        else:
            parents[left] = right
    for i in range(parents.shape[0]):  # ascending: a smaller one's parent is its root already
        parents[i] = parents[parents[i]]


@njit(nogil=True, cache=True)
def _root(parents, i):
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i
