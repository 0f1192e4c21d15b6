"""The Fourier transforms behind long convolutions: against NumPy's in double precision."""

import numpy as np
import pytest

from biolayers.kernels.numba.fourier.plan import half_size, plan_of
from biolayers.kernels.numba.fourier.products import convolve, keep_spectrum
from biolayers.kernels.numba.fourier.rows import aligned, put_rows, room_for, take_rows
from biolayers.kernels.numba.fourier.transform import from_frequencies, to_frequencies
from biolayers.kernels.numba.simd import lanes_of

SIZES = [
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    16,
    40,
    48,
    128,
    320,
    512,
    768,
    1024,
]  # every kind of stage, small and large
EXACT = {np.dtype(np.float32): 3e-7, np.dtype(np.float64): 6e-16}


def frequencies(m):
    """Which frequency stands where: partners stand at the places of k and -k, whose turns tell k."""
    plan = plan_of(m, np.dtype(np.float64))
    found = np.empty(m, np.int64)
    turns = plan.turns[:, 0] + 1j * plan.turns[:, 1]
    ks = np.round(-np.angle(turns) * m / (2 * np.pi)).astype(np.int64) % m
    found[plan.partners[:, 0]], found[plan.partners[:, 1]] = ks, -ks % m
    return found


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("m", SIZES)
def test_transform_equals_numpys_and_comes_back(m, dtype):
    plan, lanes = plan_of(m, dtype), lanes_of(dtype.itemsize)
    points = np.random.default_rng(m).standard_normal((m, 2, lanes)).astype(dtype)
    data = aligned(room_for(2 * m, dtype))[: points.size]
    data[:] = points.ravel()
    to_frequencies(data, m, plan.stages, plan.roots)
    found = data.reshape(points.shape).astype(np.float64)
    wanted = np.fft.fft(points[:, 0].astype(np.float64) + 1j * points[:, 1], axis=0)[frequencies(m)]
    assert abs(found[:, 0] + 1j * found[:, 1] - wanted).max() <= EXACT[dtype] * abs(wanted).max()
    from_frequencies(data, m, plan.stages, plan.roots)
    back = data.reshape(points.shape) / m
    assert abs(back - points).max() <= 5 * EXACT[dtype] * abs(points).max()


@pytest.mark.parametrize("m", [1, 2, 6, 20, 64])
def test_products_are_circular_convolutions(m):
    dtype = np.dtype(np.float64)
    plan, lanes, n = plan_of(m, dtype), lanes_of(8), 2 * m
    x, h = np.random.default_rng(m).standard_normal((2, lanes, n))
    data, spectrum = aligned(room_for(n, dtype)), aligned(room_for(n + 4, dtype))
    take_rows(h.ravel(), n, 0, lanes, n, data, n)
    to_frequencies(data, m, plan.stages, plan.roots)
    keep_spectrum(data, plan.partners, 0.25 / m, spectrum)
    take_rows(x.ravel(), n, 0, lanes, n, data, n)
    to_frequencies(data, m, plan.stages, plan.roots)
    convolve(data, plan.partners, plan.turns, spectrum)
    from_frequencies(data, m, plan.stages, plan.roots)
    found = np.empty(lanes * n)
    put_rows(data, 0, found, n, 0, lanes, n)
    wanted = [[sum(a[j] * b[t - j] for j in range(n)) for t in range(n)] for a, b in zip(x, h, strict=True)]
    np.testing.assert_allclose(found.reshape(lanes, n), wanted, atol=1e-13 * n)


def test_sizes_are_the_least_that_have_a_plan():
    allowed = sorted(factor << twos for factor in (1, 3, 5) for twos in range(14))
    for n in range(1, 3000):
        assert half_size(n) == next(m for m in allowed if 2 * m >= n)
