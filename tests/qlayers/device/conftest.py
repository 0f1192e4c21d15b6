"""Random tapes over the whole gate table and all measurements."""

from importlib.util import find_spec

import numpy as np
import pennylane as qml
import pytest

from qlayers.gates import CONTROLLED, TABLE, gate

collect_ignore = [] if find_spec("jax") else ["test_jax.py"]

PARAMETRIC = {name: next(n for n in (1, 2, 3) if gate(name, n)) for name in (*TABLE, *CONTROLLED)}
LARGE = {"DoubleExcitation": 4, "OrbitalRotation": 4}
PAULIS = (qml.X, qml.Y, qml.Z)
SPECIAL = (np.pi / 2, np.pi, -np.pi / 4, 0.0)


class Making:
    """Makes tapes from a seed; `batch` is the number of samples of a broadcast tape, or None."""

    def __init__(self, seed: int, wires, batch: int | None):
        self.rng, self.wires, self.batch = np.random.default_rng(seed), list(wires), batch

    def some(self, count: int) -> list:
        return [self.wires[i] for i in self.rng.permutation(len(self.wires))[:count]]

    def number(self) -> int:
        return int(self.rng.integers(1, len(self.wires) + 1))

    def shape(self) -> tuple[int, ...]:
        return (self.batch,) if self.batch and self.rng.random() < 0.3 else ()

    def angle(self):
        if shape := self.shape():
            return self.rng.normal(size=shape)
        return float(self.rng.normal()) if self.rng.random() < 0.8 else float(self.rng.choice(SPECIAL))

    def complex(self, *shape):
        shape = (*self.shape(), *shape)
        return self.rng.normal(size=shape) + 1j * self.rng.normal(size=shape)

    def table(self):
        fitting = {k: v for k, v in (PARAMETRIC | LARGE).items() if v <= len(self.wires)}
        name = str(self.rng.choice(sorted(fitting)))
        angles = [self.angle() for _ in range(getattr(qml, name).num_params)]
        return getattr(qml, name)(*angles, wires=self.some(fitting[name]))

    def word(self):
        on = self.some(self.number())
        return qml.PauliRot(self.angle(), "".join(self.rng.choice(list("IXYZ"), len(on))), on)

    def matrix(self):
        on = self.some(min(3, self.number()))
        return qml.QubitUnitary(np.linalg.qr(self.complex(2 ** len(on), 2 ** len(on)))[0], on)

    def diagonal(self):
        on = self.some(self.number())
        return qml.DiagonalQubitUnitary(np.exp(1j * self.complex(2 ** len(on)).real), on)

    def special(self):
        return qml.SpecialUnitary(self.complex(3).real, self.some(1))

    def operation(self):
        others = (
            self.word,
            self.matrix,
            self.diagonal,
            self.special,
            lambda: qml.MultiRZ(self.angle(), self.some(self.number())),
            lambda: qml.QFT(self.some(self.number())),
            lambda: qml.GlobalPhase(self.angle()),
        )
        op = self.table() if self.rng.random() < 0.6 else others[self.rng.integers(len(others))]()
        chance, free = self.rng.random(), [w for w in self.wires if w not in op.wires]
        if chance < 0.15:
            return qml.adjoint(op)
        if chance < 0.3 and op.wires and free:
            on = free[: self.rng.integers(1, min(2, len(free)) + 1)]
            return qml.ctrl(op, on, control_values=[bool(bit) for bit in self.rng.integers(0, 2, len(on))])
        return op

    def preparation(self) -> list:
        if self.rng.random() < 0.6:
            return []
        on = self.some(self.number())
        state = self.complex(2 ** len(on))
        return [qml.StatePrep(state / np.linalg.norm(state, axis=-1, keepdims=True), on)]

    def product(self):
        factors = [PAULIS[self.rng.integers(3)](wire) for wire in self.some(self.number())]
        return qml.prod(*factors) if len(factors) > 1 else factors[0]

    def hermitian(self):
        on = self.some(min(2, self.number()))
        matrix = self.rng.normal(size=(2, 2 ** len(on), 2 ** len(on)))
        matrix = matrix[0] + 1j * matrix[1]
        return qml.Hermitian(matrix + matrix.conj().T, on)

    def projector(self):
        on = self.some(self.number())
        return qml.Projector(self.rng.integers(0, 2, len(on)), on)

    def observable(self):
        kinds = (
            self.product,
            lambda: qml.dot(self.rng.normal(size=3), [self.product(), self.product(), qml.Z(self.wires[0])]),
            lambda: qml.Hamiltonian(self.rng.normal(size=2), [self.product(), qml.I(self.wires[0])]),
            self.hermitian,
            lambda: qml.Hadamard(self.wires[0]),
            self.projector,
            lambda: -1.7 * self.product(),
        )
        return kinds[self.rng.integers(len(kinds))]()

    def measurement(self, kinds: str):
        made = {
            "expval": lambda: qml.expval(self.observable()),
            "var": lambda: qml.var(self.observable()),
            "probs": lambda: qml.probs(wires=self.some(self.number())),
            "probs_all": qml.probs,
            "probs_basis": lambda: qml.probs(op=qml.Y(self.wires[0])),
            "state": qml.state,
            "density": lambda: qml.density_matrix(self.some(self.number())),
            "purity": lambda: qml.purity(self.some(self.number())),
            "entropy": lambda: qml.vn_entropy(self.some(self.number())),
            "mutual": lambda: (
                qml.mutual_info(self.wires[:1], self.wires[1:]) if self.wires[1:] else qml.probs()
            ),
        }
        return made[str(self.rng.choice(kinds.split()))]()

    def tape(self, kinds: str, *, gates: int = 8):
        operations = self.preparation() + [self.operation() for _ in range(self.rng.integers(1, gates))]
        return qml.tape.QuantumScript(
            operations, [self.measurement(kinds) for _ in range(self.rng.integers(1, 4))]
        )


@pytest.fixture(scope="session")
def making():
    return Making
