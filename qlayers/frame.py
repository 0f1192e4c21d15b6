"""The Clifford frame: what the Clifford gates so far have made of each Pauli word.

If C is the product of the Clifford gates applied so far, exp(-i t/2 P) C = C exp(-i t/2 C†PC): a later
rotation about P is one about the word C†PC before them. So all Clifford gates move to the end of the circuit,
where they only turn the observables into other words (Gottesman, arXiv:quant-ph/9807006; Litinski,
arXiv:1808.02892).
"""

from typing import NamedTuple


class Word(NamedTuple):
    """The Hermitian word sign i^|x & z| X^x Z^z, as in `qlayers.ops.pauli`: bit n-1-w is wire w."""

    x: int
    z: int
    sign: int = 1

    def commutes(self, other: "Word") -> bool:
        return ((self.x & other.z).bit_count() + (self.z & other.x).bit_count()) % 2 == 0


def multiply(a: Word, b: Word) -> tuple[int, Word]:
    """(k, word) with a b = i^k word, the word's own sign being 1.

    >>> multiply(Word(1, 0), Word(0, 1))  # X Z = -i Y = i^3 Y
    (3, Word(x=1, z=1, sign=1))
    """
    x, z = a.x ^ b.x, a.z ^ b.z
    power = (
        (a.x & a.z).bit_count() + (b.x & b.z).bit_count() + 2 * (a.z & b.x).bit_count() - (x & z).bit_count()
    )
    return (power + (1 - a.sign) + (1 - b.sign)) % 4, Word(x, z)


class Frame:
    """The map P -> C†PC for a growing product C of Clifford gates, kept as the images of X and Z of each bit.

    Example:
        After a Hadamard (pi about Z, then pi/2 about Y) an X is measured as a Z:

        >>> frame = Frame(1)
        >>> frame.absorb(Word(0, 1), quarters=2)
        >>> frame.absorb(Word(1, 1), quarters=1)
        >>> frame.pull(Word(1, 0))
        Word(x=0, z=1, sign=1)
    """

    def __init__(self, wires: int):
        self._x = [Word(1 << bit, 0) for bit in range(wires)]
        self._z = [Word(0, 1 << bit) for bit in range(wires)]

    def pull(self, word: Word) -> Word:
        """C†PC of the word P."""
        power, image = (word.x & word.z).bit_count() + 1 - word.sign, Word(0, 0)
        for mask, images in ((word.x, self._x), (word.z, self._z)):
            for bit, factor in enumerate(images):
                if mask >> bit & 1:
                    k, image = multiply(image, factor)
                    power += k
        return image._replace(sign=1 - power % 4)  # the image is Hermitian, so the power is 0 or 2

    def absorb(self, word: Word, *, quarters: int) -> None:
        """Put G = exp(-i t/2 Q), with Q = `word` and t = `quarters` times pi/2, after C.

        G†PG = P where P and Q commute, else P (cos t - i sin t Q).
        """
        quarters %= 4
        if quarters == 0:
            return
        image = self.pull(word)
        self._x = [_turn(factor, image, quarters) for factor in self._x]
        self._z = [_turn(factor, image, quarters) for factor in self._z]


def _turn(word: Word, axis: Word, quarters: int) -> Word:
    if word.commutes(axis):
        return word
    if quarters == 2:
        return word._replace(sign=-word.sign)
    power, image = multiply(word, axis)
    power += 3 if quarters == 1 else 1  # times -i or i
    return image._replace(sign=1 - power % 4)
