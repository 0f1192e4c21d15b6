"""Random numbers by counter: what is drawn for a sample depends on seed, epoch, index and purpose alone.

So it is the same for any number of workers, in any process, in any order, and after a resume. The numbers of
one (seed, epoch, stream) are a SplitMix64 sequence (`shared.splitmix`), of which sample i takes the i-th.
"""

import math
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np

from shared.errors import UserError
from shared.splitmix import GAMMA, mix

_ONE, _11, _32 = np.uint64(1), np.uint64(11), np.uint64(32)

_ROUNDS = (
    24  # of the network that permutes: 4 would do for large n (Luby & Rackoff 1988), the smallest want more
)


def integers(seed: int, epoch: int, indices: Any, stream: str, low: Any, high: Any) -> np.ndarray:
    """Draw a whole number for each sample, all between its bounds equally probable: (b,) int64.

    Args:
        seed: From 0 up to 2**64.
        epoch: From 0 on.
        indices: (b,) integers: the samples.
        stream: What the number is for, such as "jitter"; each purpose has numbers of its own.
        low: The lowest number, one for all or (b,).
        high: The number after the highest, one for all or (b,); above `low`.

    Raises:
        UserError: `seed` or `epoch` is out of range, or some `high` is not above its `low`.

    Example:
        >>> integers(1, 0, [0, 1, 2, 3, 4], "jitter", -2, 3)
        array([ 2,  1, -2, -1, -1])
        >>> integers(1, 0, [4, 2], "jitter", -2, 3)
        array([-1, -2])
    """
    places = np.asarray(indices, np.int64)
    low, high = np.asarray(low, np.int64), np.asarray(high, np.int64)
    if not (high > low).all():
        raise UserError(f"randomness: expected bounds low < high for {stream!r}, received {low} and {high}")
    bound = (high - low).astype(np.uint64)
    # Below 2**64 mod bound a number is drawn again, else small results would be more probable.
    surplus = (~bound + _ONE) % bound  # as 2**64 - bound
    drawn = _numbers(seed, epoch, places, stream)
    attempt = 0
    while (again := drawn < surplus).any():
        attempt += 1
        drawn[again] = _numbers(seed, epoch, places[again], stream, attempt)
    return (drawn % bound).astype(np.int64) + low


def uniform(seed: int, epoch: int, indices: Any, stream: str) -> np.ndarray:
    """Draw a number for each sample, evenly from 0 up to but not including 1: (b,) float64.

    The arguments are those of `integers`.

    Example:
        >>> uniform(1, 0, [0, 1, 2], "noise").round(3)
        array([0.721, 0.593, 0.003])
    """
    return (_numbers(seed, epoch, np.asarray(indices, np.int64), stream) >> _11) * 2.0**-53


def coin(seed: int, epoch: int, indices: Any, stream: str, probability: float = 0.5) -> np.ndarray:
    """Toss a coin for each sample: (b,) bool, True with the given probability.

    The arguments are those of `integers`.

    Example:
        >>> coin(1, 0, range(6), "strand")
        array([False,  True, False, False, False, False])
        >>> coin(1, 0, range(3), "strand", 0.0).any()
        np.False_
    """
    if not 0 <= probability <= 1:
        raise UserError(f"randomness: expected a probability from 0 to 1, received {probability}")
    return uniform(seed, epoch, indices, stream) < probability


def shuffled(seed: int, epoch: int, places: Any, n: int, stream: str = "order") -> np.ndarray:
    """Say which of `n` samples stand at some places of a random order, without making the order: (b,) int64.

    Places 0 to n - 1 give every sample exactly once. A place p is written as (p // b, p % b) with a·b just
    above n; the two digits in turn are shifted by a random function of the other, which loses nothing (a
    generalised Feistel network); a result beyond n is sent through again (both: Black & Rogaway, "Ciphers
    with arbitrary finite domains", CT-RSA 2002, doi:10.1007/3-540-45760-7_9).

    Args:
        seed: From 0 up to 2**64.
        epoch: From 0 on.
        places: (b,) integers from 0 to n - 1.
        n: How many samples there are, below 2**62.
        stream: As in `integers`.

    Example:
        >>> shuffled(1, 0, range(7), 7)
        array([2, 0, 6, 5, 1, 3, 4])
        >>> shuffled(1, 0, [5, 0], 7)
        array([3, 2])
    """
    places = np.asarray(places, np.int64)
    if places.size and (places.min() < 0 or places.max() >= n):
        raise UserError(
            f"randomness: expected places from 0 to {n - 1}, received {places.min()} to {places.max()}"
        )
    result = places.astype(np.uint64)
    *keys, swap = mix(_key(seed, epoch, stream, 0) + np.arange(_ROUNDS + 1, dtype=np.uint64) * GAMMA)
    wide = np.uint64(math.isqrt(max(0, n - 1)) + 1)  # values of the right digit, and of the left one:
    high = np.uint64(-(-n // int(wide)))
    outside = np.ones(places.shape, bool)
    while outside.any():
        result[outside] = _through(keys, result[outside], wide, high)
        outside = result >= n
    # The network makes even permutations far more often than odd ones, which a coin for one swap makes good.
    if n > 1 and swap & _ONE:
        result[result < 2] ^= _ONE
    return result.astype(np.int64)


def _through(keys: list[np.uint64], values: np.ndarray, wide: np.uint64, high: np.uint64) -> np.ndarray:
    """One passage through the network: (b,) uint64."""
    left, right = np.divmod(values, wide)
    for turn, key in enumerate(keys):
        if turn % 2:
            right += _digit(key, left, wide)
            right -= wide * (right >= wide)
        else:
            left += _digit(key, right, high)
            left -= high * (left >= high)
    return left * wide + right


def _digit(key: np.uint64, values: np.ndarray, bound: np.uint64) -> np.ndarray:
    """A random function from values to 0..bound - 1 (bound < 2**32): uint64."""
    return ((mix(key + values * GAMMA) >> _32) * bound) >> _32


def _numbers(seed: int, epoch: int, places: np.ndarray, stream: str, attempt: int = 0) -> np.ndarray:
    """A number below 2**64 for each sample: (b,) uint64."""
    return mix(_key(seed, epoch, stream, attempt) + places.astype(np.uint64) * GAMMA)


@lru_cache(maxsize=4096)
def _key(seed: int, epoch: int, stream: str, attempt: int) -> np.ndarray:
    """Where the numbers of one purpose begin: (1,) uint64, as sums of arrays wrap without a warning."""
    if not 0 <= seed < 2**64:
        raise UserError(f"randomness: expected a seed from 0 up to 2**64, received {seed}")
    if not 0 <= epoch < 2**63:
        raise UserError(f"randomness: expected an epoch from 0 on, received {epoch}")
    purpose = int.from_bytes(blake2b(stream.encode(), digest_size=8).digest(), "little")
    key = mix(np.array([seed], np.uint64) + GAMMA)
    for part in (epoch, purpose, attempt):
        key = mix(key + np.array([part], np.uint64) * GAMMA)
    return key
