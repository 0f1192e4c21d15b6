"""Gather windows of sequences in memory into rows, from either strand."""

from numba import njit

from biolayers.alphabet import PAD


@njit(nogil=True, cache=True)
def gather(first, last, values, starts, stops, minus, partner, out, places, rooms):
    """Write windows `first` to `last` into `out`.

    Args:
        first: Where this share of the windows begins.
        last: And ends.
        values: (letters,) uint8: the tokens of all sequences.
        starts: (n,) int64: where each window begins in `values`.
        stops: (n,) int64: and ends.
        minus: (n,) bool: windows to reverse and complement.
        partner: (256,) uint8: the complement of each token.
        out: (bytes,) uint8.
        places: (n,) int64: where in `out` each window goes.
        rooms: (n,) int64: how many bytes it has there; what is left becomes `PAD`.
    """
    for i in range(first, last):
        count, place = stops[i] - starts[i], places[i]
        if minus[i]:
            for k in range(count):
                out[place + k] = partner[values[stops[i] - 1 - k]]
        else:
            for k in range(count):
                out[place + k] = values[starts[i] + k]
        for k in range(count, rooms[i]):
            out[place + k] = PAD
