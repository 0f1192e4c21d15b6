"""Where a noisy circuit begins: prepared states as expectation values of all Pauli words."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qlayers.evaluate import SHARED
from qlayers.noise.lowered import Acted
from qlayers.readout import state_from, walsh


class Begun(NamedTuple):
    """A state that is prepared: the bits of its wires, constants, or the places of its numbers."""

    bits: tuple[int, ...]
    constants: tuple[complex, ...]
    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, bits: tuple[int, ...], acted: Acted, constant: Callable, place: Callable) -> "Begun":
        """What an operation prepares; `constant` gives the value of a node or None, `place` where it is."""
        values = [constant(parameter) for parameter in acted.parameters]
        if None in values:
            # a constant among computed numbers is asked for like them
            return cls(bits, (), tuple(place(parameter) for parameter in acted.parameters))
        size = 2 ** len(bits)
        if len(values) == 2 * size:
            return cls(
                bits, tuple(complex(*pair) for pair in zip(values[:size], values[size:], strict=True)), ()
            )
        return cls(bits, acted.entries or tuple(values), ())


class Prepared:
    """The beginning of a plan on a device in a dtype."""

    def __init__(self, start: Sequence[Begun], wires: int, device: torch.device, dtype: torch.dtype):
        self._start, self._wires = start, wires
        self._like = torch.empty(0, dtype=dtype, device=device)

    @property
    def is_given(self) -> bool:
        """Whether any state is prepared."""
        return bool(self._start)

    def __call__(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(s, 4^n): the words' values, none for |0...0>, one row for all samples, or one for each."""
        if not self._start:
            return batched.new_zeros(0, 4**self._wires)
        return values_of(self.state(shared, batched))

    def state(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(s, 2, 2^n): the state itself."""
        total, order = self._like.new_tensor([[[1.0], [0.0]]]), ()
        for begun in self._start:
            part = self._part(begun, shared, batched)  # (s, 2, 2^k)
            (a, b), (c, d) = (total.unsqueeze(-1).unbind(1), part.unsqueeze(-2).unbind(1))
            total = torch.stack([(a * c - b * d).flatten(1), (a * d + b * c).flatten(1)], 1)
            order += tuple(self._wires - 1 - bit for bit in begun.bits)
        rest = 2 ** (self._wires - len(order))
        padded = torch.nn.functional.pad(total.unsqueeze(-1), (0, rest - 1))
        return state_from(padded, order)

    def _part(self, begun: Begun, shared: Tensor, batched: Tensor) -> Tensor:
        size = 2 ** len(begun.bits)
        if begun.constants:
            numbers = torch.tensor(begun.constants, dtype=torch.complex128)
            return torch.view_as_real(numbers).mT.to(self._like).unsqueeze(0)
        if all(side == SHARED for side, _ in begun.places):
            columns = torch.tensor([column for _, column in begun.places], device=shared.device)
            found = shared.index_select(-1, columns).unsqueeze(0)
        else:
            both = torch.cat([batched, shared.expand(batched.shape[0], -1)], -1)
            columns = [column + batched.shape[1] * (side == SHARED) for side, column in begun.places]
            found = both.index_select(-1, torch.tensor(columns, device=both.device))
        if found.shape[-1] == size:
            found = torch.cat([found, torch.zeros_like(found)], -1)
        return found.unflatten(-1, (2, size))


def values_of(state: Tensor) -> Tensor:
    """(s, 4^n): the expectation values of all words of states (s, 2, 2^n), number x 2^n + z.

    <P> of the word with masks x and z is the sum over j of i^|x & z| (-1)^|z & j| conj(psi[j xor x]) psi[j].
    """
    from qlayers.ops.pauli import popcount

    size = state.shape[-1]
    index = torch.arange(size, device=state.device)
    x, z = index.unsqueeze(-1), index.unsqueeze(0)
    re, im = state.unbind(1)
    partner_re, partner_im = re[:, x ^ z], im[:, x ^ z]  # (s, x, j)
    real = walsh(partner_re * re.unsqueeze(1) + partner_im * im.unsqueeze(1))
    imaginary = walsh(partner_re * im.unsqueeze(1) - partner_im * re.unsqueeze(1))
    power = popcount(x & z) & 3
    cosine = (power == 0).to(state.dtype) - (power == 2).to(state.dtype)
    sine = (power == 1).to(state.dtype) - (power == 3).to(state.dtype)
    return (cosine * real - sine * imaginary).flatten(1)
