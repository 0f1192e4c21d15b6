"""The distribution of a motif's score at a random site, from the top down.

Scores are whole numbers of a grid. The deficit of a site (the highest score less its own) is a sum of numbers
from 0 on, one for each position, so the chances of all deficits up to a limit follow from those up to the
limit of one position less: Staden (1989), begun at the best word. The limit keeps the work small where only
small p-values are wanted.
"""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def tails(start, stop, deficits, widths, background, out):
    """out[s, k] = the chance that a random site has a deficit of at most k; rows s.

    deficits (s, 4, w) int64, background (s, 4) float64, out (s, limit + 1) float64. Each sum begins with
    the rarest event, so that small chances keep their digits.
    """
    size = out.shape[1]
    now, after = np.empty(size), np.empty(size)
    for s in range(start, stop):
        now[:] = 0.0
        now[0] = 1.0
        reach = 1  # how many entries can be above zero
        for j in range(widths[s]):
            step = max(deficits[s, 0, j], deficits[s, 1, j], deficits[s, 2, j], deficits[s, 3, j])
            wider = min(size, reach + step)
            after[:wider] = 0.0
            for letter in range(4):
                spread(now, after, deficits[s, letter, j], background[s, letter], min(reach, size))
            now, after = after, now
            reach = wider
        now[reach:] = 0.0
        total = 0.0
        for k in range(size):
            total += now[k]
            out[s, k] = total


@njit(nogil=True, cache=True)
def spread(now, after, shift, share, reach):
    """after[k + shift] += share * now[k] for k below `reach`, where there is room."""
    for k in range(max(0, min(reach, after.shape[0] - shift))):
        after[k + shift] += share * now[k]
