"""The schedule: which rotations share a pass, and which indices a pass walks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qlayers.kernels.numba.schedule import _echelon, _kernel, _span, schedule


def made(rows, words=((0, 1),), wires=3):
    return schedule(np.array(rows, np.int64).tobytes(), np.array(words, np.int64).tobytes(), wires).passes


def walked(plan, g):
    """All indices that pass g touches."""
    m, cosets, shift, low0, low1, high0, high1, *_ = plan.passes[g]
    firsts = [
        h ^ l ^ (c * shift)
        for c in range(cosets)
        for h in plan.tables[high0:high1]
        for l in plan.tables[low0:low1]
    ]
    return sorted(firsts + ([j ^ m for j in firsts] if m else []))


def test_three_rotations_of_one_wire_are_one_pass():
    rot = [[0, 4, 0, 0], [4, 4, 0, 1], [0, 4, 0, 2]]  # RZ RY RZ on wire 0
    assert len(made(rot).passes) == 1


def test_a_rotation_passes_what_it_commutes_with():
    layers = [
        [4, 0, 0, 0],
        [2, 0, 0, 1],
        [1, 0, 0, 2],
        [0, 4, 0, 3],
        [0, 2, 0, 4],
        [0, 1, 0, 5],
    ]  # RX on all, RZ on all
    assert len(made(layers).passes) == 3


def test_diagonal_rotations_are_one_pass():
    plan = made([[0, 6, 0, 0], [0, 3, 0, 1], [0, 5, 0, 2]])
    assert plan.passes[:, 0].tolist() == [0]


def test_identity_words_are_left_out():
    assert len(made([[0, 0, 0, 0]]).passes) == 0


def test_first_rotation_of_each_wire_walks_the_support_alone():
    plan = made([[4, 0, 0, 0], [2, 0, 0, 1], [1, 0, 0, 2]])
    assert [walked(plan, g) for g in range(3)] == [[0, 4], [0, 2, 4, 6], list(range(8))]


def test_signs_that_vary_make_two_cosets():
    rows = [
        [1, 0, 0, 0],
        [2, 0, 0, 1],
        [4, 0, 0, 2],
        [1, 2, 0, 3],
    ]  # X on each wire, then X with a Z beside it
    plan = made(rows)
    assert plan.passes[-1][1] == 2
    assert walked(plan, len(plan.passes) - 1) == list(range(8))


@given(st.lists(st.integers(0, 255), max_size=10), st.integers(0, 255))
def test_subspaces(vectors, mask):
    basis = _echelon(vectors)
    span = _span(basis)
    closure = {0}
    for vector in vectors:
        closure |= {v ^ vector for v in closure}
    assert sorted(span.tolist()) == sorted(closure)
    assert len(span) == len(closure)
    assert span.tolist() == sorted(span.tolist())
    even, odd = _kernel(basis, mask)
    evens = {v for v in closure if not (v & mask).bit_count() & 1}
    assert set(_span(even).tolist()) == evens
    assert (odd is None) == (evens == closure)
    assert odd is None or {v ^ odd for v in evens} == closure - evens


def test_equal_circuits_share_a_schedule():
    assert made([[1, 0, 0, 0]]) is made([[1, 0, 0, 0]])
