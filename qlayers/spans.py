"""Spans of bit masks over GF(2): which masks are sums (xor) of others, and how they overlap with a mask."""

from collections.abc import Iterable
from functools import cache


class Basis:
    """A basis over GF(2), by leading bit."""

    def __init__(self):
        self._members: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._members)

    def add(self, vector: int) -> None:
        while vector:
            lead = vector.bit_length()
            if lead not in self._members:
                self._members[lead] = vector
                return
            vector ^= self._members[lead]

    def overlaps_oddly(self, mask: int) -> bool:
        """Whether `mask` has an odd overlap with anything in the span."""
        return any((mask & member).bit_count() & 1 for member in self._members.values())


class Span:
    """A span of masks by its reduced basis: each member has a pivot, a bit that no other member has."""

    def __init__(self):
        self._members: dict[int, int] = {}  # pivot -> member
        self._inside: set[int] = {0}  # masks known to be in the span
        self._shown: dict[int, int] = {0: 0}  # what `shown` has found for this span

    def __len__(self) -> int:
        return len(self._members)

    def _rest(self, mask: int) -> int:
        for pivot, member in self._members.items():
            if mask & pivot:
                mask ^= member
        return mask

    def holds(self, mask: int) -> bool:
        return mask in self._inside or not self._rest(mask)

    def add(self, mask: int) -> bool:
        """Whether the mask was outside."""
        if mask in self._inside:
            return False
        self._inside.add(mask)
        mask = self._rest(mask)
        if not mask:
            return False
        pivot = 1 << mask.bit_length() - 1
        self._members = {p: m ^ mask if m & pivot else m for p, m in self._members.items()}
        self._members[pivot] = mask
        self._shown = {0: 0}
        return True

    def shown(self, z: int) -> int:
        """A mask on the pivots alone that has the same overlap with every member as z, modulo 2."""
        found = self._shown.get(z)
        if found is None:
            pairs = self._members.items()
            found = self._shown[z] = sum(pivot for pivot, member in pairs if (z & member).bit_count() & 1)
        return found


class Coordinates:
    """Coordinates of masks in a basis: bit i belongs to basis[i]."""

    def __init__(self, basis: Iterable[int]):
        self._basis = tuple(basis)
        self._members: list[tuple[int, int, int]] = []  # (leading bit, member, its coordinates)
        for i, mask in enumerate(self._basis):
            rest, of = self._reduced(mask, 1 << i)
            self._members.append((1 << rest.bit_length() - 1, rest, of))
        self.of, self.overlaps = cache(self._of), cache(self._overlaps)

    def _reduced(self, mask: int, of: int) -> tuple[int, int]:
        for lead, member, its in self._members:
            if mask & lead:
                mask, of = mask ^ member, of ^ its
        return mask, of

    def _of(self, mask: int) -> int:
        """The coordinates of a mask in the span."""
        return self._reduced(mask, 0)[1]

    def _overlaps(self, z: int) -> int:
        """Bit i is the parity of z & basis[i]."""
        return sum(((z & b).bit_count() & 1) << i for i, b in enumerate(self._basis))
