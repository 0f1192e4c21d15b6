"""A circuit with known weights as turns of a state, for circuits of many angles.

The state is one real row (b, 2N): real parts, then imaginary ones. A Pauli word times -i is then a signed
permutation J of it, a rotation cos(t/2) v + sin(t/2) J v, and rotations by known angles that follow one
another are one matrix where that is small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qlayers.ops.pauli import popcount

_MOST_FOLDED = 256  # real numbers of a state up to which known rotations become a matrix


@dataclass(frozen=True)
class Signed:
    """A signed permutation of a state's 2N real numbers: (J v)[j] = sign[j] v[source[j]]."""

    source: Tensor  # (2N,) int64
    sign: Tensor  # (2N,) float64

    def __call__(self, v: Tensor) -> Tensor:
        return v.index_select(-1, self.source) * self.sign


def word(x: int, z: int, wires: int, *, turned: bool) -> Signed:
    """The Pauli word with masks x and z (see `qlayers.ops.pauli`), times -i if `turned`."""
    size = 2**wires
    source = torch.arange(size) ^ x
    sign = (1 - 2 * (popcount(source & z) & 1)).double()
    # (P v)[j] = i^power sign[j] v[source[j]], and 1, i, -1, -i take (re, im) to these places with these signs
    power = (int(popcount(torch.tensor(x & z))) + (3 if turned else 0)) % 4
    of_re, of_im = ((0, 1), (1, -1), (0, -1), (1, 1))[power], ((1, 1), (0, 1), (1, -1), (0, -1))[power]
    return Signed(
        torch.cat([source + of_re[0] * size, source + of_im[0] * size]),
        torch.cat([of_re[1] * sign, of_im[1] * sign]),
    )


def turn(v: Tensor, own: Signed, cosine: Tensor, sine: Tensor) -> Tensor:
    """exp(-i t/2 P) v, given cosine and sine of t/2 as (b, 1) or single numbers."""
    return cosine * v + sine * own(v)


class Evolution(nn.Module):
    """A state (b, 2N) after rotations, of its beginning (s, 2N) and the angles of each sample (b, Kb).

    Args:
        rotations: (K, 4) as in `qlayers.ops.pauli_expval`.
        shared: (Ks,) the angles that are known.
        wires: n.
        dtype: in which it computes.
        start: (2N,) where all samples begin, or None if that is given with each call.
    """

    def __init__(
        self, rotations: Tensor, shared: Tensor, wires: int, dtype: torch.dtype, start: Tensor | None
    ) -> None:
        super().__init__()
        steps = _runs(rotations.tolist(), shared.double(), wires)
        columns = [step for step in steps if isinstance(step, int)]
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64))
        self._plan: list[tuple[str, int]] = []
        if start is not None and steps and isinstance(steps[0], list):
            start = _apply(start[None].double(), steps.pop(0), wires)[0]
        self.register_buffer("start", None if start is None else start[None].to(dtype))
        turns = iter([row for row in rotations.tolist() if row[2]])
        for step in steps:
            if isinstance(step, int):
                x, z, *_ = next(turns)
                self._keep("turn", word(x, z, wires, turned=True), dtype)
            elif 2 * 2**wires <= _MOST_FOLDED:
                self._keep_matrix(_apply(torch.eye(2 * 2**wires, dtype=torch.float64), step, wires).to(dtype))
            else:
                for own, cosine, sine in step:
                    self._keep("fixed", Signed(own.source, own.sign * sine), dtype, cosine)

    def _keep(self, kind: str, own: Signed, dtype: torch.dtype, cosine: Tensor | None = None) -> None:
        number = len(self._plan)
        self.register_buffer(f"source_{number}", own.source)
        self.register_buffer(f"sign_{number}", own.sign.to(dtype))
        if cosine is not None:
            self.register_buffer(f"cosine_{number}", cosine.to(dtype))
        self._plan.append((kind, number))

    def _keep_matrix(self, matrix: Tensor) -> None:
        self.register_buffer(f"matrix_{len(self._plan)}", matrix)
        self._plan.append(("matrix", len(self._plan)))

    def forward(self, batched: Tensor, state: Tensor | None = None) -> Tensor:
        """(b, 2N)."""
        v = self.start if state is None else state
        half = batched.index_select(-1, self.columns) / 2  # (b, turns)
        cosines, sines = (iter(f(half).split(1, -1)) for f in (torch.cos, torch.sin))
        for kind, number in self._plan:
            if kind == "matrix":
                v = v @ getattr(self, f"matrix_{number}")
                continue
            own = Signed(getattr(self, f"source_{number}"), getattr(self, f"sign_{number}"))
            if kind == "turn":
                v = turn(v, own, next(cosines), next(sines))
            else:
                v = getattr(self, f"cosine_{number}") * v + own(v)
        return v if v.shape[0] == batched.shape[0] else v.expand(batched.shape[0], -1)


def _runs(rows: Sequence, shared: Tensor, wires: int) -> list:
    """The columns of rotations with angles of samples, and between them lists of the known rotations."""
    runs: list = []
    for x, z, batched, column in rows:
        if batched:
            runs.append(column)
            continue
        if not runs or isinstance(runs[-1], int):
            runs.append([])
        half = shared[column] / 2
        runs[-1].append((word(x, z, wires, turned=True), torch.cos(half), torch.sin(half)))
    return runs


def _apply(v: Tensor, run: Sequence[tuple[Signed, Tensor, Tensor]], wires: int) -> Tensor:
    for own, cosine, sine in run:
        v = turn(v, own, cosine, sine)
    return v


class Expectations(nn.Module):
    """Expectation values (b, T) of Pauli words in states (b, 2N); words with the same flips share a product.

    Args:
        words: (T, 2) masks x and z.
        wires: n.
        dtype: in which it computes.
    """

    def __init__(self, words: Tensor, wires: int, dtype: torch.dtype) -> None:
        super().__init__()
        masks = words.tolist()
        groups: dict[tuple, list[int]] = {}
        for column, (x, z) in enumerate(masks):
            groups.setdefault((x, (x & z).bit_count() % 2), []).append(column)
        self._count = len(groups)
        for number, columns in enumerate(groups.values()):
            signed = [word(*masks[column], wires, turned=False) for column in columns]
            onto = torch.zeros(2 * 2**wires, len(masks), dtype=torch.float64)
            onto[:, columns] = torch.stack([own.sign for own in signed], 1)
            self.register_buffer(f"onto_{number}", onto.to(dtype))
            flips = masks[columns[0]][0] != 0
            self.register_buffer(f"source_{number}", signed[0].source if flips else None)

    def forward(self, v: Tensor) -> Tensor:
        """(b, T)."""
        found = None
        for number in range(self._count):
            source = getattr(self, f"source_{number}")
            other = v if source is None else v.index_select(-1, source)
            part = (v * other) @ getattr(self, f"onto_{number}")
            found = part if found is None else found + part
        assert found is not None
        return found
