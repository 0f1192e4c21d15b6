"""The maps of a noisy circuit as numbers: those that are constant made once, the others at each pass."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.evaluate import BATCHED, SHARED
from qlayers.noise.channels import TABLE, channel, check_values, factors, transfer
from qlayers.noise.lowered import Acted, Mapped
from qlayers.readout import LETTERS, kron, words_of

Place = tuple[int, int]


class Computed(NamedTuple):
    """A part of a map that follows from numbers: the operation's name, and where these numbers are."""

    name: str
    places: tuple[Place, ...]


class Fixed(NamedTuple):
    """A part of a map that is constant: a matrix of Pauli words, row after row."""

    entries: tuple[float, ...]


class MapPlan(NamedTuple):
    """One map: its parts in order, wires, side, whether it is diagonal, and where its numbers begin."""

    parts: tuple[Computed | Fixed, ...]
    wires: int
    side: int
    diagonal: bool
    column: int

    @property
    def constant(self) -> bool:
        return all(isinstance(part, Fixed) for part in self.parts)

    @property
    def form(self) -> str:
        """Its letter among the forms of `qlayers.ops.pauli_transfer`."""
        return "d" if self.diagonal else str(self.wires)

    @property
    def size(self) -> int:
        return 4 if self.diagonal else 16**self.wires


def planned(maps: Sequence[Mapped], constant: Callable[[int], float | None], place: Callable[[int], Place]):
    """The plans of maps; `constant` gives the value of a node or None, `place` where it will be found."""
    found, width = [], [0, 0]
    for one in maps:
        parts = _joined([_part(acted, one.wires, constant, place) for acted in one.acted])
        sides = [side for part in parts if isinstance(part, Computed) for side, _ in part.places]
        side = max(sides, default=SHARED)
        new = MapPlan(
            tuple(parts), one.wires, side, one.wires == 1 and all(map(_is_diagonal, parts)), width[side]
        )
        found.append(new)
        width[side] += new.size
    return found


def _part(acted: Acted, wires: int, constant: Callable, place: Callable) -> Computed | Fixed:
    values = [constant(parameter) for parameter in acted.parameters]
    if None in values:
        return Computed(acted.name, tuple(place(parameter) for parameter in acted.parameters))
    numbers = torch.tensor(values, dtype=torch.float64)
    if acted.entries:
        entries = torch.tensor(acted.entries, dtype=torch.complex128)
        numbers = torch.cat([entries.real, entries.imag])
    return Fixed(tuple(matrix_of(acted.name, numbers, wires).reshape(-1).tolist()))


def _joined(parts: list[Computed | Fixed]) -> list[Computed | Fixed]:
    """Neighbours that are constant as one."""
    found: list[Computed | Fixed] = []
    for part in parts:
        if found and isinstance(part, Fixed) and isinstance(found[-1], Fixed):
            after, before = _matrix(part), _matrix(found[-1])
            found[-1] = Fixed(tuple((after @ before).reshape(-1).tolist()))
        else:
            found.append(part)
    return found


def _matrix(part: Fixed) -> np.ndarray:
    side = round(len(part.entries) ** 0.5)
    return np.array(part.entries).reshape(side, side)


def _is_diagonal(part: Computed | Fixed) -> bool:
    if isinstance(part, Computed):
        return part.name in TABLE and TABLE[part.name].flips is not None
    matrix = _matrix(part)
    return not np.any(matrix - np.diag(np.diag(matrix)))


# matrices of Pauli words


def matrix_of(name: str, numbers: Tensor, wires: int) -> Tensor:
    """(..., 4^k, 4^k): what an operation makes of the words of its wires, from its numbers (..., m).

    Kraus operators K give the entries tr(P sum of K Q K†) / 2^k; a unitary is one of them, and so is a
    projector, given as its bits.
    """
    if name in TABLE:
        return transfer(channel(name), numbers.unbind(-1))
    operators = torch.complex(*kraus_of(name, numbers, wires).unbind(-4))  # (..., K, 2^k, 2^k)
    words = _words(wires).to(operators)  # (4^k, 2^k, 2^k)
    moved = torch.einsum("...kab,qbc,...kdc->...qad", operators, words, operators.conj())
    return torch.einsum("pda,...qad->...pq", words, moved).real / 2**wires


def kraus_of(name: str, numbers: Tensor, wires: int) -> Tensor:
    """(..., 2, K, 2^k, 2^k): the Kraus operators that numbers (..., m) stand for, real parts first."""
    size = 2**wires
    if name == "Projector":
        bits = numbers[..., :wires]  # the imaginary parts are 0
        kept = torch.stack([1 - bits, bits], -1)[..., 0, :]
        return torch.stack([torch.diag_embed(kept), torch.zeros_like(torch.diag_embed(kept))], -3).unsqueeze(
            -3
        )
    if name == "DiagonalQubitUnitary" and numbers.shape[-1] == size:
        numbers = torch.cat([numbers, torch.zeros_like(numbers)], -1)
    parts = numbers.unflatten(-1, (2, -1))
    if name == "DiagonalQubitUnitary":
        return torch.diag_embed(parts).unsqueeze(-3)
    return parts.unflatten(-1, (-1, size, size))


def _words(count: int) -> Tensor:
    """(4^k, 2^k, 2^k): all words, the identity first."""
    return torch.stack(
        [kron(LETTERS[letter] for letter in word) for word in ("I" * count, *words_of(count, "IXYZ"))]
    )


class Maps:
    """All maps on a device in a dtype.

    Those of one side that consist of the same kinds of parts are computed together.
    """

    def __init__(self, plans: Sequence[MapPlan], device: torch.device, dtype: torch.dtype):
        self._like = torch.empty(0, dtype=dtype, device=device)
        self._groups = [
            _Group(members, side, self._like) for side in (SHARED, BATCHED) for members in _alike(plans, side)
        ]
        self._orders = [self._order(plans, side) for side in (SHARED, BATCHED)]

    def _order(self, plans: Sequence[MapPlan], side: int) -> Tensor | None:
        """Where each number of this side is among those of its groups; None if they are in order."""
        position, found = 0, {}
        for group in self._groups:
            if group.side == side:
                for one in group.members:
                    found[one.column] = range(position, position + one.size)
                    position += one.size
        order = [place for column in sorted(found) for place in found[column]]
        if order == list(range(len(order))):
            return None
        return torch.tensor(order, dtype=torch.int64, device=self._like.device)

    def __call__(self, shared: Tensor, batched: Tensor) -> tuple[Tensor, Tensor]:
        """(Ms,) and (b, Mb): the numbers of all maps, from those that are computed."""
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for group in self._groups:
            found[group.side].append(group(shared, batched))
        empty = shared.new_empty(0), batched.new_empty(batched.shape[0], 0)
        return tuple(map(self._together, found, self._orders, empty))

    def _together(self, parts: list[Tensor], order: Tensor | None, empty: Tensor) -> Tensor:
        if not parts:
            return empty
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return joined if order is None else joined.index_select(-1, order)


def _alike(plans: Sequence[MapPlan], side: int) -> list[list[MapPlan]]:
    groups: dict[Any, list[MapPlan]] = defaultdict(list)
    for plan in plans:
        if plan.side == side:
            kinds = tuple(part.name if isinstance(part, Computed) else None for part in plan.parts)
            sizes = tuple(len(part.places) if isinstance(part, Computed) else 0 for part in plan.parts)
            groups[plan.wires, plan.diagonal, kinds, sizes].append(plan)
    return list(groups.values())


class _Group:
    """Maps of one kind, computed together."""

    def __init__(self, members: list[MapPlan], side: int, like: Tensor):
        self.members, self.side = members, side
        self._wires, self._diagonal = members[0].wires, members[0].diagonal
        self._parts = [self._prepared(i, like) for i in range(len(members[0].parts))]

    def _prepared(self, i: int, like: Tensor) -> tuple:
        """One part of all members: its name and the places of its numbers, or None and the constants."""
        parts = [member.parts[i] for member in self.members]
        if isinstance(parts[0], Fixed):
            matrices = torch.tensor([part.entries for part in parts], dtype=torch.float64)
            matrices = matrices.unflatten(-1, (4**self._wires, -1))
            if self._diagonal:
                matrices = matrices.diagonal(dim1=-2, dim2=-1)
            return None, matrices.to(like), None
        sides = torch.tensor([[side == SHARED for side, _ in part.places] for part in parts])
        columns = torch.tensor([[column for _, column in part.places] for part in parts])
        return parts[0].name, columns.to(like.device), sides.to(like.device)

    def __call__(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(Ms,) or (b, Mb): the numbers of the members, one after the other."""
        found = None
        for name, table, sides in self._parts:
            part = table if name is None else self._computed(name, table, sides, shared, batched)
            if found is None:
                found = part
            else:
                found = part * found if self._diagonal else part @ found
        if self.side == SHARED:
            return found.reshape(-1)
        return found.expand(batched.shape[0], *found.shape[-2 - (not self._diagonal) :]).flatten(1)

    def _computed(self, name: str, columns: Tensor, sides: Tensor, shared: Tensor, batched: Tensor) -> Tensor:
        if self.side == SHARED:
            numbers = shared[columns]  # (m, parameters)
        else:
            both = torch.cat([batched, shared.expand(batched.shape[0], -1)], -1)
            numbers = both[:, columns + batched.shape[1] * sides]  # (b, m, parameters)
        if name in TABLE:
            check_now(name, numbers)
        if self._diagonal:
            return factors(channel(name), numbers.unbind(-1))
        return matrix_of(name, numbers, self._wires)


def check_now(name: str, numbers: Tensor) -> None:
    """Raise a `UserError` if computed parameters (..., p) are out of range, where that can be seen."""
    if torch.compiler.is_compiling() or numbers.device.type != "cpu" or not numbers.numel():
        return
    if torch._C._functorch.is_functorch_wrapped_tensor(numbers) or type(numbers) is not Tensor:
        return
    check_values(name, name, list(numbers.detach().unbind(-1)))
