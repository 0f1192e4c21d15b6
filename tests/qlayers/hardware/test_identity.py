"""What names a circuit in a journal: equal for equal circuits in any process, different for all others."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pennylane as qml
import pytest
import torch

from qlayers.hardware.identity import Identity, description
from shared.errors import UserError

Z0 = qml.expval(qml.Z(0))


def script(ops: list, measurements: list | None = None):
    return qml.tape.QuantumScript(ops, measurements or [Z0])


def names(tape) -> tuple[str, str]:
    identity = Identity(tape)
    return identity.circuit, identity.parameters


def measured(reset: bool = False):
    with qml.queuing.AnnotatedQueue() as queue:
        qml.H(0)
        first = qml.measure(0, reset=reset)
        second = qml.measure(1)
        qml.cond(first & second, qml.X)(1)
        qml.expval(first + 2 * second)
    return qml.tape.QuantumScript.from_queue(queue)


def measured_word(word: str):
    with qml.queuing.AnnotatedQueue() as queue:
        outcome = qml.pauli_measure(word, wires=[0, 1])
        qml.cond(outcome, qml.X)(1)
        qml.expval(qml.Z(1))
    return qml.tape.QuantumScript.from_queue(queue)


DIFFERENT = {
    "gate": script([qml.RX(0.5, 0)]),
    "number": script([qml.RX(0.25, 0)]),
    "type": script([qml.RY(0.5, 0)]),
    "wire": script([qml.RX(0.5, 1)]),
    "label": script([qml.RX(0.5, "0")]),
    "adjoint": script([qml.adjoint(qml.RX(0.5, 0))]),
    "power": script([qml.pow(qml.RX(0.5, 0), 2)]),
    "control": script([qml.ctrl(qml.RX(0.5, 0), 1)]),
    "control on 0": script([qml.ctrl(qml.RX(0.5, 0), 1, control_values=[0])]),
    "order": script([qml.RX(0.5, 0), qml.RY(0.5, 0)]),
    "other order": script([qml.RY(0.5, 0), qml.RX(0.5, 0)]),
    "word": script([qml.PauliRot(0.5, "XY", [0, 1])]),
    "other word": script([qml.PauliRot(0.5, "YX", [0, 1])]),
    "unitary": script([qml.QubitUnitary(np.eye(2), 0)]),
    "other unitary": script([qml.QubitUnitary(np.diag([1, 1j]), 0)]),
    "state": script([qml.StatePrep([0.6, 0.8], 0)]),
    "other state": script([qml.StatePrep([0.8, 0.6], 0)]),
    "basis": script([qml.BasisState([0, 1], [0, 1])]),
    "other basis": script([qml.BasisState([1, 0], [0, 1])]),
    "channel": script([qml.DepolarizingChannel(0.5, 0)]),
    "template": script([qml.StronglyEntanglingLayers(np.ones((1, 2, 3)), [0, 1])]),
    "ranges": script([qml.StronglyEntanglingLayers(np.ones((2, 3, 3)), [0, 1, 2], ranges=(1, 2))]),
    "other ranges": script([qml.StronglyEntanglingLayers(np.ones((2, 3, 3)), [0, 1, 2], ranges=(2, 1))]),
    "mid": measured(),
    "mid with reset": measured(reset=True),
    "product": measured_word("XY"),
    "other product": measured_word("XZ"),
    "var": script([qml.RX(0.5, 0)], [qml.var(qml.Z(0))]),
    "two": script([qml.RX(0.5, 0)], [Z0, Z0]),
    "probs": script([qml.RX(0.5, 0)], [qml.probs(wires=[0, 1])]),
    "probs turned": script([qml.RX(0.5, 0)], [qml.probs(wires=[1, 0])]),
    "counts": script([qml.RX(0.5, 0)], [qml.counts(wires=0)]),
    "all counts": script([qml.RX(0.5, 0)], [qml.counts(wires=0, all_outcomes=True)]),
    "sum": script([qml.RX(0.5, 0)], [qml.expval(qml.Z(0) + qml.X(1))]),
    "scaled": script([qml.RX(0.5, 0)], [qml.expval(2.0 * qml.Z(0) + qml.X(1))]),
    "hamiltonian": script([], [qml.expval(qml.Hamiltonian([1.0, 0.5], [qml.Z(0), qml.X(1)]))]),
    "other hamiltonian": script([], [qml.expval(qml.Hamiltonian([1.0, 0.25], [qml.Z(0), qml.X(1)]))]),
    "hermitian": script([], [qml.expval(qml.Hermitian(np.diag([1.0, 2.0]), 0))]),
    "projector": script([], [qml.expval(qml.Projector([0], 0))]),
    "other projector": script([], [qml.expval(qml.Projector([1], 0))]),
    "time": script([qml.evolve(qml.X(0) @ qml.Y(1), 0.5)]),
}


def test_different_circuits_have_different_names() -> None:
    for (one, first), (other, second) in itertools.combinations(DIFFERENT.items(), 2):
        assert names(first) != names(second), (one, other)


SAME = [
    (script([qml.RX(0.5, 0)]), script([qml.RX(np.array(0.5), wires=[0])])),
    (script([qml.RX(0.5, 0)]), script([qml.RX(torch.tensor(0.5, requires_grad=True), np.int64(0))])),
    (script([qml.RX(1, 0)]), script([qml.RX(1.0, 0)])),
    (script([qml.PauliX(0)]), script([qml.X(0)])),
    (measured_word("XY"), measured_word("XY")),
    *((measured(), measured()) for _ in range(8)),  # whose random names come in any order
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_circuits_have_equal_names(one, other) -> None:
    assert names(one) == names(other)


def test_numbers_leave_the_structure_alone() -> None:
    structures = {Identity(DIFFERENT[name]).circuit for name in ("gate", "number")}
    assert len(structures) == 1


def test_another_process_gives_the_same_names() -> None:
    """Python's own hashes differ there."""
    source = (
        "import pennylane as qml; from qlayers.hardware.identity import Identity\n"
        "t = qml.tape.QuantumScript([qml.RX(0.5, 'a'), qml.ctrl(qml.RY(0.1, 0), 'a')],"
        " [qml.counts(wires=['a', 0])])\n"
        "i = Identity(t); print(i.circuit, i.parameters)"
    )
    answers = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, check=True, env=environment
        )
        answers.add(run.stdout)
    tape = script([qml.RX(0.5, "a"), qml.ctrl(qml.RY(0.1, 0), "a")], [qml.counts(wires=["a", 0])])
    assert answers == {" ".join(names(tape)) + "\n"}


class Unnamed(qml.operation.Operator):
    """Has a setting that nothing can write down."""

    num_wires = 1

    def __init__(self, setting, wires):
        self._hyperparameters = {"setting": setting}
        super().__init__(wires=wires)

    def _flatten(self):
        return (), (self.wires, self._hyperparameters["setting"])


def test_what_cannot_be_named_is_refused() -> None:
    with pytest.raises(UserError, match="received a builtins:object"):
        names(script([Unnamed(object(), 0)]))


def test_long_circuits_are_described_in_a_line() -> None:
    text = description(script([qml.X(0)] * 9, [Z0] * 5))
    assert text.startswith("PauliX, PauliX, PauliX, PauliX and 5 more on wires [0]; expval(Z(0)), ")
