"""Vectors inside kernels: every operation against NumPy, and the width of what is read and written."""

import numpy as np
import pytest
from numba import TypingError, njit

from shared import simd
from shared.simd import (
    BYTES,
    add,
    address,
    either,
    fma,
    fnma,
    lanes_of,
    load,
    mul,
    neg,
    prefetch,
    splat,
    store,
)

FLOATS, ALL = (np.float32, np.float64), (np.float32, np.float64, np.uint8)

floats = pytest.mark.parametrize("dtype", FLOATS)
every_dtype = pytest.mark.parametrize("dtype", ALL)


def vectors(count, dtype, places=0):
    """`count` vectors of random numbers, one after the other, and `places` numbers more."""
    rng = np.random.default_rng(0)
    size = count * BYTES // np.dtype(dtype).itemsize + places
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, 256, size, dtype)
    return rng.standard_normal(size).astype(dtype)


def applied(operation, *operands):
    """An operation on vectors, as seen from outside a kernel."""
    arity = len(operands)

    @njit
    def run(table, out):
        lanes = out.shape[0]
        if arity == 1:
            store(out, 0, operation(load(table, 0)))
        elif arity == 2:
            store(out, 0, operation(load(table, 0), load(table, lanes)))
        else:
            store(out, 0, operation(load(table, 0), load(table, lanes), load(table, 2 * lanes)))

    out = np.empty_like(operands[0])
    run(np.concatenate(operands), out)
    return out


@njit
def copy(source, start, target, to):
    store(target, to, load(source, start))


@every_dtype
def test_lanes(dtype):
    itemsize = np.dtype(dtype).itemsize
    assert lanes_of(itemsize) == 64 // itemsize
    assert lanes_of(itemsize, 32) == 32 // itemsize


@every_dtype
@pytest.mark.parametrize(("start", "to"), [(0, 0), (1, 3), (7, 0)])
def test_load_and_store_at_any_element(dtype, start, to):
    source, target = vectors(1, dtype, 7), np.zeros_like(vectors(1, dtype, 7))
    lanes = lanes_of(source.itemsize)
    expected = target.copy()
    expected[to : to + lanes] = source[start : start + lanes]
    copy(source, start, target, to)
    np.testing.assert_array_equal(target, expected)  # and nothing around it is written


@every_dtype
def test_splat(dtype):
    @njit
    def fill(out, value):
        store(out, 0, splat(value))

    out = np.zeros(lanes_of(np.dtype(dtype).itemsize) + 1, dtype)
    fill(out, dtype(7))
    assert (out[:-1] == 7).all()
    assert out[-1] == 0


@every_dtype
@pytest.mark.parametrize(("operation", "expected"), [(add, np.add), (mul, np.multiply)])
def test_arithmetic(operation, expected, dtype):
    a, b = np.split(vectors(2, dtype), 2)
    np.testing.assert_array_equal(applied(operation, a, b), expected(a, b))


def test_either():
    a, b = np.split(vectors(2, np.uint8), 2)
    np.testing.assert_array_equal(applied(either, a, b), a | b)


@floats
def test_either_has_no_meaning_for_floats(dtype):
    a, b = np.split(vectors(2, dtype), 2)
    with pytest.raises(TypingError):
        applied(either, a, b)


@floats
def test_neg_keeps_the_sign_of_zero(dtype):
    a = vectors(1, dtype)
    a[:2] = 0.0, -0.0
    found = applied(neg, a)
    np.testing.assert_array_equal(found, -a)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(-a))


@floats
def test_fused_multiply_add_rounds_once(dtype):
    a, b, c = np.split(vectors(3, dtype), 3)
    small = np.finfo(dtype).eps
    a[0], b[0], c[0] = 1 + small, 1 - small, -1  # the product, 1 - small^2, would be rounded to 1
    a[1], b[1], c[1] = 1 + small, 1 - small, 1
    close = {"rtol": 4 * small, "atol": 4 * small}
    np.testing.assert_allclose(applied(fma, a, b, c), a * b + c, **close)
    np.testing.assert_allclose(applied(fnma, a, b, c), c - a * b, **close)
    assert applied(fma, a, b, c)[0] == -(small**2)
    assert applied(fnma, a, b, c)[1] == small**2


@floats
def test_total(dtype):
    @njit
    def run(table):
        return simd.total(load(table, 0))

    values = vectors(1, dtype)
    expected = values.copy()
    while expected.size > 1:
        expected = expected[: expected.size // 2] + expected[expected.size // 2 :]
    found = run(values)
    assert found == expected[0]  # the promised order, to the last bit
    np.testing.assert_allclose(found, values.sum(dtype=np.float64), rtol=1e-5, atol=1e-5)


@every_dtype
def test_address(dtype):
    values = vectors(1, dtype)[1:]
    assert njit(lambda array: address(array))(values) == values.ctypes.data


@every_dtype
def test_prefetch_may_miss_and_changes_nothing(dtype):
    @njit
    def run(array):
        prefetch(array, 0)
        prefetch(array, 1 << 40)

    values = vectors(1, dtype)
    before = values.copy()
    run(values)
    np.testing.assert_array_equal(values, before)
