"""The machine's rate of fused multiply-adds: independent chains of vectors that stay in registers."""

from time import perf_counter

import numpy as np
import torch
from numba import njit

from shared.simd import add, fma, load, store
from shared.threads import parallel

CHAINS = 10  # two units, each answering after four or five cycles, are busy with ten
LINKS = 1_000_000
ROWS = 16  # shared among the threads
OPERATIONS = 2 * 16 * CHAINS * LINKS * ROWS  # of a call, in float32


@njit(nogil=True, cache=True)
def chains(start, stop, starts, factors, sums):
    """For each row, `LINKS` times x <- scale x + shift in each chain; `sums` (rows, 16) keeps the result."""
    scale, shift = load(factors, 0), load(factors, 16)
    for row in range(start, stop):
        a, b, c = load(starts, 0), load(starts, 16), load(starts, 32)
        d, e, f = load(starts, 48), load(starts, 64), load(starts, 80)
        g, h, i, j = load(starts, 96), load(starts, 112), load(starts, 128), load(starts, 144)
        for _ in range(LINKS):
            a, b, c = fma(scale, a, shift), fma(scale, b, shift), fma(scale, c, shift)
            d, e, f = fma(scale, d, shift), fma(scale, e, shift), fma(scale, f, shift)
            g, h = fma(scale, g, shift), fma(scale, h, shift)
            i, j = fma(scale, i, shift), fma(scale, j, shift)
        first, last = add(add(a, b), add(add(c, d), e)), add(add(f, g), add(add(h, i), j))
        store(sums, 16 * row, add(first, last))


def flops(threads: int, *, rounds: int = 5) -> float:
    """Float32 operations per second on so many threads, the best of some rounds."""
    starts = np.random.default_rng(0).random(16 * CHAINS, np.float32)
    factors = np.repeat(np.array([0.5, 0.25], np.float32), 16)
    sums = np.empty((ROWS, 16), np.float32)
    before, seconds = torch.get_num_threads(), []
    torch.set_num_threads(threads)  # `parallel` uses as many
    try:
        for _ in range(rounds + 1):  # the first compiles
            start = perf_counter()
            parallel(chains, ROWS, starts, factors, sums, grain=1)
            seconds.append(perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return OPERATIONS / min(seconds)
