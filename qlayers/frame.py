"""The Clifford frame: what the Clifford gates so far have made of each Pauli word.

If C is the product of the Clifford gates applied so far, exp(-i t/2 P) C = C exp(-i t/2 C†PC): a later
rotation about P is one about the word C†PC before them. So all Clifford gates move to the end of the circuit,
where they only turn the observables into other words (Gottesman, arXiv:quant-ph/9807006; Litinski,
arXiv:1808.02892).
"""

from math import pi
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
    (ax, az, a_sign), (bx, bz, b_sign) = a, b
    x, z = ax ^ bx, az ^ bz
    power = (ax & az).bit_count() + (bx & bz).bit_count() + 2 * (az & bx).bit_count() - (x & z).bit_count()
    return (power + 2 - a_sign - b_sign) % 4, Word(x, z)


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
        x, z, sign = word
        factors = [self._x[bit] for bit in _bits(x)] + [self._z[bit] for bit in _bits(z)]
        if len(factors) == 1:
            (image,) = factors
            return image if sign == 1 else Word(image.x, image.z, -image.sign)
        power, image = (x & z).bit_count() + 1 - sign, Word(0, 0)
        for factor in factors:
            k, image = multiply(image, factor)
            power += k
        return Word(image.x, image.z, 1 - power % 4)  # the image is Hermitian, so the power is 0 or 2

    def absorb(self, word: Word, *, quarters: int) -> None:
        """Put G = exp(-i t/2 Q), with Q = `word` and t = `quarters` times pi/2, after C.

        G†PG = P where P and Q commute, else P (cos t - i sin t Q).
        """
        quarters %= 4
        if quarters == 0:
            return
        image = self.pull(word)
        # the X of a bit anticommutes with the word if that has a Z there, and the Z if it has an X
        for mask, images in ((word.z, self._x), (word.x, self._z)):
            for bit in _bits(mask):
                images[bit] = _turn(images[bit], image, quarters)


def _bits(mask: int) -> list[int]:
    """The numbers of the bits that are set."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def _turn(word: Word, axis: Word, quarters: int) -> Word:
    """G†PG for words that anticommute."""
    if quarters == 2:
        return word._replace(sign=-word.sign)
    power, image = multiply(word, axis)
    power += 3 if quarters == 1 else 1  # times -i or i
    return Word(image.x, image.z, 1 - power % 4)


def quarters_of(angle: float) -> int | None:
    """K if the angle is k pi/2 to rounding, as numpy.pi / 2 is; else None.

    >>> quarters_of(-3.141592653589793), quarters_of(0.5)
    (-2, None)
    """
    quarters = angle / (pi / 2)
    if not abs(quarters) <= 1e6 or abs(quarters - round(quarters)) > 1e-15 * max(1.0, abs(quarters)):
        return None
    return round(quarters)
