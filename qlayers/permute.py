"""Clifford gates that map basis states to basis states, up to a phase i^k: a table instead of arithmetic.

CNOT, CZ, S, SWAP, the Paulis and their like. A product C of them sends |k> to i^q(k) |A k + s> with a linear
map A of bits, so a whole network of them is one index table and one table of phases.
"""

import cmath
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from qlayers.frame import Frame, Word, _turn

MOST_WIRES = 4  # gates on more wires qualify if each of their rotations does


class Permutation(NamedTuple):
    """|k> -> phase * product of images[j] over the bits j of k, applied to |origin>."""

    origin: int
    images: tuple[Word, ...]

    @property
    def is_identity(self) -> bool:
        plain = all(image == Word(1 << bit, 0) for bit, image in enumerate(self.images))
        return self.origin == 0 and plain

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """For each index where its amplitude comes from, and the power of i that it gets."""
        index, power = np.array([self.origin]), np.zeros(1, np.int64)
        for x, z, sign in self.images:
            turned = power + (x & z).bit_count() + (1 - sign) + 2 * (np.bitwise_count(index & z) & 1)
            index, power = np.concatenate([index, index ^ x]), np.concatenate([power, turned % 4])
        source, powers = np.empty_like(index), np.empty_like(power)
        source[index] = np.arange(len(index))
        powers[index] = power
        return source, powers


class Permuting:
    """A growing product of such gates.

    Example:
        CNOT with bit 1 as the control sends |10> to |11>:

        >>> cnot = (("ZI", 1), ("IX", 1), ("ZX", -1))
        >>> permuting = Permuting(2)
        >>> permuting.absorb([(Word(0, 2), 1), (Word(1, 0), 1), (Word(1, 2), -1)], cnot, (1, 0))
        >>> permuting.now().tables()[0]
        array([0, 1, 3, 2])
    """

    def __init__(self, wires: int):
        self.frame = Frame(wires)
        self.phase = 0.0
        self._origin = 0
        self._images = [Word(1 << bit, 0) for bit in range(wires)]

    def now(self) -> Permutation:
        return Permutation(self._origin, tuple(self._images))

    def absorb(self, words: list[tuple[Word, int]], turns: tuple, bits: tuple[int, ...]) -> None:
        """Put a gate after all so far, given as (word, quarter turns) and as (letters, quarter turns)."""
        for word, quarters in words:
            self.frame.absorb(word, quarters=quarters)
            if quarters % 4:
                # G X G^dagger turns the other way round than G^dagger X G
                self._images = [
                    image if image.commutes(word) else _turn(image, word, -quarters % 4)
                    for image in self._images
                ]
        parts = (
            [(words, turns)]
            if len(bits) <= MOST_WIRES
            else list(zip(([w] for w in words), turns, strict=True))
        )
        for some, letters in parts:
            letters = letters if len(bits) <= MOST_WIRES else (letters,)
            self._send(some, letters, bits)

    def _send(self, words: list[tuple[Word, int]], turns: tuple, bits: tuple[int, ...]) -> None:
        """Follow |0...0> through the gate."""
        if len(bits) > MOST_WIRES:
            ((word, quarters),) = words
            amplitude, self._origin = _turned(word, quarters, self._origin)
        else:
            local = sum((self._origin >> bit & 1) << (len(bits) - 1 - i) for i, bit in enumerate(bits))
            column = gate_matrix(turns)[:, local]
            to = int(np.argmax(np.abs(column)))
            amplitude = column[to]
            for i, bit in enumerate(bits):
                on = to >> (len(bits) - 1 - i) & 1
                self._origin = self._origin & ~(1 << bit) | on << bit
        self.phase += cmath.phase(amplitude)


def _turned(word: Word, quarters: int, index: int) -> tuple[complex, int]:
    """The amplitude and place of exp(-i quarters pi/4 P)|index>, which is one basis state."""
    value = (-1) ** (word.z & index).bit_count()
    if word.x == 0:
        return cmath.exp(-0.25j * cmath.pi * quarters * value), index
    if quarters % 4 == 0:
        return complex((-1) ** (quarters // 4)), index
    sign = 1 if quarters % 8 == 2 else -1
    return -1j * sign * 1j ** (word.x & word.z).bit_count() * value, index ^ word.x


@lru_cache(maxsize=1024)
def permutes(turns: tuple[tuple[str, int], ...]) -> bool:
    """Whether the product of rotations ((letters, quarter turns), ...) maps basis states to basis states.

    >>> permutes((("ZI", 1), ("IX", 1), ("ZX", -1))), permutes((("X", 1),))
    (True, False)
    """
    each = all(quarters % 2 == 0 or not set(word) & set("XY") for word, quarters in turns)
    count = len(turns[0][0]) if turns else 0
    if each or count > MOST_WIRES:
        return each
    frame = Frame(count)
    for letters, quarters in turns:
        frame.absorb(word_of(letters), quarters=quarters)
    return all(frame.pull(Word(0, 1 << bit)).x == 0 for bit in range(count))


def word_of(letters: str) -> Word:
    """The word of letters, the first of which is the highest bit."""
    x = int("".join("1" if letter in "XY" else "0" for letter in letters), 2)
    z = int("".join("1" if letter in "YZ" else "0" for letter in letters), 2)
    return Word(x, z)


@lru_cache(maxsize=1024)
def gate_matrix(turns: tuple[tuple[str, int], ...]) -> np.ndarray:
    """The matrix of a product of rotations by quarter turns."""
    size = 2 ** len(turns[0][0])
    index = np.arange(size)
    matrix = np.eye(size, dtype=complex)
    for letters, quarters in turns:
        x, z, _ = word_of(letters)
        source = index ^ x
        signs = (1 - 2 * (np.bitwise_count(source & z).astype(np.int64) & 1))[:, None]
        angle = np.pi / 4 * quarters
        matrix = (
            np.cos(angle) * matrix - 1j * np.sin(angle) * 1j ** (x & z).bit_count() * signs * matrix[source]
        )
    return matrix
