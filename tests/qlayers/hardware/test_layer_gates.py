"""The gates and channels of a layer on a device: values, and derivatives by the shift rule of each."""

import numpy as np
import pennylane as qml
import pytest
import torch
from agreement import assert_agree, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from qlayers import Circuit
from qlayers.gates import TABLE, gate
from shared.errors import UserError


def variants() -> list[str]:
    named = {name: row[0] for name, row in TABLE.items() if row[0]}
    named |= {"PauliRot[XYZ]": 1, "MultiRZ": 1}
    one_wire = ("RX", "Rot", "PhaseShift", "U1", "U2", "U3", "GlobalPhase")
    outer = ("Adjoint({})", "C({})", "C0(C({}))", "Adjoint(C({}))", "C(Adjoint({}))")
    return [*named, *(form.format(name) for name in one_wire for form in outer), "C(PSWAP)", "C(IsingXY)"]


@pytest.mark.parametrize("name", variants())
def test_shift_rules_of_gates(name: str) -> None:
    sizes = (found for n in (1, 2, 3, 4) if (found := gate(name, n)) is not None)
    found = next(found for found in sizes if all(len(word) == found.wires for word, _ in found.turns))
    angles = ",".join(f"x{i}*w[{i}]" for i in range(found.parameters))
    wires = " ".join(map(str, range(found.wires)))
    text = [f"RY({0.3 + i}) {i}" for i in range(4)] + [f"CNOT {i} {i + 1}" for i in range(3)]
    text += [f"{name}({angles}) {wires}", *(f"RX({1.3 - 0.2 * i}) {i}" for i in range(4))]
    text += ["CNOT 0 1", "expval Z(0)@Y(1)", "expval X(2)", "probs 1 0"]
    source = "\n".join(["wires 0 1 2 3", "features 3", "weights w(3)", *text])
    assert_agree(*pair(Circuit.parse(source), None, device="default.qubit"), torch.rand(2, 3).double())


ANGLES = ["x0", "x1", "w[0]", "w[1]*x0", "0.7", "2.0*w[0] + 0.3"]
LINES = st.one_of(
    st.tuples(
        st.sampled_from(["RX", "RY", "RZ", "PhaseShift"]), st.sampled_from(ANGLES), st.integers(0, 2)
    ).map(lambda t: f"{t[0]}({t[1]}) {t[2]}"),
    st.tuples(
        st.sampled_from(["CRX", "CRZ", "IsingXY", "SingleExcitation", "C0(RY)"]),
        st.sampled_from(ANGLES),
        st.permutations(range(3)),
    ).map(lambda t: f"{t[0]}({t[1]}) {t[2][0]} {t[2][1]}"),
    st.permutations(range(3)).map(lambda p: f"CNOT {p[0]} {p[1]}"),
)


@settings(max_examples=30)
@given(st.lists(LINES, max_size=8), st.integers(0, 2))
def test_random_circuits(lines: list[str], wire: int) -> None:
    head = ["wires 0 1 2", "features 2", "weights w(2)"]
    text = "\n".join([*head, *lines, f"expval Z({wire})", f"var X({(wire + 1) % 3})"])
    assert_agree(*pair(Circuit.parse(text), None, device="default.qubit"), torch.rand(2, 2).double())


def test_prepared_states_and_matrices() -> None:
    unitary = torch.linalg.matrix_exp(1j * torch.tensor([[0.2, 0.5], [0.5, -0.3]], dtype=torch.complex128))

    def function(inputs, w):
        qml.AmplitudeEmbedding(inputs, wires=range(2), normalize=True)
        qml.RX(w, wires=0)
        qml.QubitUnitary(unitary.numpy(), wires=1)
        qml.DiagonalQubitUnitary(np.exp(1j * np.arange(4)), wires=[0, 1])
        return qml.expval(qml.X(0) @ qml.Z(1))

    exact, layer = pair(function, {"w": ()}, device=qml.device("default.qubit", wires=2))
    x = torch.rand(3, 4, dtype=torch.float64)
    for one in (exact, layer):
        one(x).sum().backward()
    assert_close(layer(x), exact(x))
    assert_close(layer.w.grad, exact.w.grad)
    with pytest.raises(UserError, match=r"StatePrep on wires .* depend on the inputs"):
        layer(x.requires_grad_()).sum().backward()


CHANNELS = [
    "BitFlip(0.1) 0",
    "AmplitudeDamping(0.2) 1",
    "DepolarizingChannel(0.1) 0",
    "PauliError[XZ](0.2) 1 0",
    "ThermalRelaxationError(0.1,1.0,1.2,0.4) 1",
    "QubitChannel[1.0,0.0,0.0,0.8,0.0,0.6,0.0,0.0] 0",
]


@pytest.mark.filterwarnings("ignore:Casting complex values to real")  # PennyLane's own, of PauliError
@pytest.mark.parametrize("channel", CHANNELS)
def test_channels(channel: str) -> None:
    source = f"RX(x0) 0\nCRY(x1) 0 1\n{channel}\nCNOT 1 0\nexpval Z(0)\nprobs 1"
    exact, layer = pair(Circuit.parse(source), None, device=qml.device("default.mixed", wires=2))
    assert_agree(exact, layer, torch.rand(3, 2, dtype=torch.float64))


def test_strengths_of_channels() -> None:
    """A probability that enters linearly has a rule; others are refused."""
    exact, layer = pair(Circuit.parse("RY(0.3) 0\nBitFlip(x0) 0\nexpval Z(0)"), None, device="default.mixed")
    assert_agree(exact, layer, torch.tensor([[0.2], [0.9]], dtype=torch.float64))
    _, layer = pair(
        Circuit.parse("RY(0.3) 0\nAmplitudeDamping(x0) 0\nexpval Z(0)"), None, device="default.mixed"
    )
    with pytest.raises(UserError, match=r"AmplitudeDamping on wires \[0\]: expected angles"):
        layer(torch.tensor([[0.2]], dtype=torch.float64, requires_grad=True)).backward()
