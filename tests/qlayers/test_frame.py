"""The Clifford frame against dense matrices."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qlayers.frame import Frame, Word, multiply

LETTERS = {
    (0, 0): np.eye(2),
    (1, 0): np.array([[0, 1], [1, 0]]),
    (1, 1): np.array([[0, -1j], [1j, 0]]),
    (0, 1): np.diag([1, -1]),
}


def dense(word: Word, wires: int) -> np.ndarray:
    matrix = np.eye(1) * word.sign
    for wire in range(wires):
        bit = wires - 1 - wire
        matrix = np.kron(matrix, LETTERS[word.x >> bit & 1, word.z >> bit & 1])
    return matrix


def words(wires: int):
    mask = st.integers(0, 2**wires - 1)
    return st.builds(Word, mask, mask, st.sampled_from((1, -1)))


@given(a=words(3), b=words(3))
def test_multiply(a, b):
    power, product = multiply(a, b)
    np.testing.assert_allclose(dense(a, 3) @ dense(b, 3), 1j**power * dense(product, 3))
    assert a.commutes(b) == np.allclose(dense(a, 3) @ dense(b, 3), dense(b, 3) @ dense(a, 3))


@settings(deadline=None)
@given(data=st.data(), wires=st.integers(1, 4))
def test_pull_is_conjugation(data, wires):
    frame, clifford = Frame(wires), np.eye(2**wires)
    for _ in range(data.draw(st.integers(0, 6))):
        axis, quarters = data.draw(words(wires)), data.draw(st.integers(-5, 5))
        frame.absorb(axis, quarters=quarters)
        half = quarters * np.pi / 4
        gate = np.cos(half) * np.eye(2**wires) - 1j * np.sin(half) * dense(axis, wires)
        clifford = gate @ clifford
    word = data.draw(words(wires))
    pulled = dense(frame.pull(word), wires)
    np.testing.assert_allclose(clifford.conj().T @ dense(word, wires) @ clifford, pulled, atol=1e-12)
