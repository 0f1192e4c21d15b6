"""Measurements read from states: probabilities, density matrices, observables of any form."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from qlayers.evaluate import SHARED
from qlayers.expressions import Nodes
from qlayers.measure import Block, Measurement, Term
from qlayers.measure_words import information, matrix_of
from qlayers.readout import (
    TO_BASIS,
    amplitudes_of,
    as_complex,
    density,
    kron,
    pair,
    purity,
    smaller_part,
    squared,
    state_from,
    times,
    walsh,
)
from qlayers.stages import Staged

if TYPE_CHECKING:
    from qlayers.states import StatePlan

MOST_SIGNS = 2**20  # numbers in a table of signs; beyond, all words with one x come from one transform


class Part(NamedTuple):
    """One term of an observable: a word (masks x, z) or a matrix on places, and its factor.

    The factor is `constant`, times the wanted number `factor` if there is one.
    """

    constant: float
    factor: int | None
    x: int
    z: int
    places: tuple[int, ...]
    block: Block | None


Observed = tuple[tuple[Part, ...], ...]  # for each measurement the terms of its observable


def observed(measurements: Sequence[Measurement], staged: Staged, nodes: Nodes) -> Observed:
    """The observables with masks and places instead of wires."""
    return tuple(tuple(_part(term, staged, nodes) for term in m.terms) for m in measurements)


def _part(term: Term | Block, staged: Staged, nodes: Nodes) -> Part:
    row = nodes.rows[term.coefficient]
    is_constant = row[0] == "constant"
    constant, factor = (row[1], None) if is_constant else (1.0, staged.want(term.coefficient))
    if isinstance(term, Block):
        return Part(constant, factor, 0, 0, staged.places(term.wires), term._replace(coefficient=0))
    word = staged.word(term.word)
    return Part(constant, factor, word.x, word.z, (), None)


class Looks:
    """All measurements of a plan, on a device in a dtype."""

    def __init__(self, plan: "StatePlan", device: torch.device, dtype: torch.dtype):
        self._plan = plan
        self._like = torch.empty(0, dtype=dtype, device=device)
        parts = {(p.x, p.z): None for terms in plan.observed for p in terms if p.block is None}
        self._words = list(parts)
        self._groups = self._grouped()
        self._matrices = {
            part.block: pair(matrix_of(part.block).reshape(-1), self._like).unflatten(
                -1, (2 ** len(part.places), -1)
            )
            for terms in plan.observed
            for part in terms
            if part.block is not None
        }
        self._bases = [self._basis(measurement) for measurement in plan.measurements]

    def __call__(self, state: Tensor, phase: Tensor | float, shared: Tensor, batched: Tensor) -> list[Tensor]:
        """One result (b, *shape) for each measurement of states (b, 2, 2^n)."""
        words = self.word_values(state) if self._words else None

        def factor(part: Part) -> Tensor | float:
            if part.factor is None:
                return part.constant
            side, column = self._plan.places[part.factor]
            return part.constant * (shared if side == SHARED else batched)[..., column]

        found = []
        for i, measurement in enumerate(self._plan.measurements):
            if measurement.kind in ("expval", "var"):
                found.append(self._observed(measurement.kind, self._plan.observed[i], state, words, factor))
            else:
                found.append(self._result(measurement, self._bases[i], state, phase))
        return found

    # observables

    def _grouped(self) -> list[tuple]:
        """For each mask x and kind of part: where partners are, real or imaginary, signs, and the order."""
        groups = defaultdict(list)
        for number, (x, z) in enumerate(self._words):
            groups[x, (x & z).bit_count() % 2].append((number, z))
        size, device = 2**self._plan.wires, self._like.device
        index = torch.arange(size, device=device) if groups else None
        self._order = torch.empty(len(self._words), dtype=torch.int64)
        found, position = [], 0
        for (x, imaginary), members in groups.items():
            # Re(i^p v) is v.re, -v.im, -v.re, v.im for p = 0, 1, 2, 3
            signs = [1.0 if (x & z).bit_count() % 4 in (0, 3) else -1.0 for _, z in members]
            partner = None if x == 0 else index ^ x
            zs = torch.tensor([z for _, z in members], dtype=torch.int64, device=device)
            table = None
            if size * len(members) <= MOST_SIGNS:
                table = 1.0 - 2.0 * _parity(index.unsqueeze(-1) & zs).to(self._like)
                table = table * torch.tensor(signs).to(self._like)
            found.append((partner, imaginary, zs, torch.tensor(signs).to(self._like), table))
            for number, _ in members:
                self._order[number] = position
                position += 1
        self._order = self._order.to(device)
        return found

    def word_values(self, state: Tensor) -> Tensor:
        """(b, words): <psi|P|psi> for each word."""
        re, im = state.unbind(1)
        found = []
        for partner, imaginary, zs, signs, table in self._groups:
            to_re, to_im = (re, im) if partner is None else (re[:, partner], im[:, partner])
            product = to_re * im - to_im * re if imaginary else to_re * re + to_im * im
            if table is not None:
                found.append(product @ table)
            else:
                found.append(walsh(product).index_select(-1, zs) * signs)
        return torch.cat(found, -1).index_select(-1, self._order)

    def _observed(
        self, kind: str, parts: Sequence[Part], state: Tensor, words: Tensor | None, factor: Callable
    ) -> Tensor:
        value = state.new_zeros(state.shape[0])
        for part in parts:
            value = value + factor(part) * self._value(part, state, words)
        if kind == "expval":
            return value
        if len(parts) == 1 and parts[0].block is None:
            return factor(parts[0]) ** 2 - value**2
        turned = torch.zeros_like(state)  # O|psi>
        for part in parts:
            scale = factor(part)
            scale = scale[:, None, None] if isinstance(scale, Tensor) and scale.ndim else scale
            turned = turned + scale * self._applied(part, state)
        return squared(turned).sum(-1) - value**2

    def _value(self, part: Part, state: Tensor, words: Tensor | None) -> Tensor:
        if part.block is None:
            return words[:, self._words.index((part.x, part.z))]
        amplitudes = amplitudes_of(state, part.places)
        if part.block.kind == "projector":
            row = int("".join(map(str, part.block.entries)) or "0", 2)
            return squared(amplitudes[:, :, row]).sum(-1)
        if part.block.kind == "diagonal":
            weights = self._matrices[part.block][0].diagonal()
            return squared(amplitudes).sum(-1) @ weights
        return (amplitudes * times(self._matrices[part.block], amplitudes)).sum((1, 2, 3))

    def _applied(self, part: Part, state: Tensor) -> Tensor:
        """The word or matrix on states."""
        if part.block is not None:
            amplitudes = amplitudes_of(state, part.places)
            return state_from(times(self._matrices[part.block], amplitudes), part.places)
        index = torch.arange(state.shape[-1], device=state.device)
        source = index ^ part.x
        sign = (1 - 2 * _parity(source & part.z)).to(state.dtype)
        re, im = (state.index_select(-1, source) * sign).unbind(1)
        for _ in range((part.x & part.z).bit_count() % 4):
            re, im = -im, re
        return torch.stack([re, im], 1)

    # everything else

    def _basis(self, measurement: Measurement) -> Tensor | None:
        """The unitary (2, m, m) that leads to the basis of "probs", None for the computational one."""
        if not measurement.basis:
            return None
        if isinstance(measurement.basis, str):
            matrix = kron(TO_BASIS[letter] for letter in measurement.basis).reshape(-1)
        else:
            matrix = torch.tensor(measurement.basis, dtype=torch.complex128)
        size = 2 ** len(measurement.wires)
        return torch.view_as_real(matrix).movedim(-1, 0).to(self._like).unflatten(-1, (size, size))

    def _result(
        self, measurement: Measurement, basis: Tensor | None, state: Tensor, phase: Tensor | float
    ) -> Tensor:
        kind = measurement.kind
        if kind == "state":
            return as_complex(_with_phase(state, phase))
        places = tuple(self._plan.place(wire) for wire in measurement.wires)
        if kind == "probs":
            amplitudes = amplitudes_of(state, places)
            return squared(amplitudes if basis is None else times(basis, amplitudes)).sum(-1)
        if kind == "density":
            return as_complex(density(amplitudes_of(state, places)))
        others = tuple(self._plan.place(wire) for wire in measurement.others)
        asked = (places, others, places + others) if kind == "mutual_info" else (places,)
        wires = self._plan.wires
        parts = [density(amplitudes_of(state, smaller_part(on, wires))) for on in asked]
        return purity(parts[0]) if kind == "purity" else information(parts, measurement.base)


def _parity(masks: Tensor) -> Tensor:
    from qlayers.ops.pauli import popcount

    return popcount(masks) & 1


def _with_phase(state: Tensor, phase: Tensor | float) -> Tensor:
    """exp(i phase) times the states."""
    if isinstance(phase, float) and phase == 0.0:
        return state
    phase = torch.as_tensor(phase, dtype=state.dtype, device=state.device)
    c, s = (part.reshape(-1, 1) for part in (torch.cos(phase), torch.sin(phase)))
    re, im = state.unbind(1)
    return torch.stack([c * re - s * im, c * im + s * re], 1)
