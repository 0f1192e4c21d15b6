"""The noun: text, equality, drawing, and what is refused."""

import copy
import pickle
import subprocess
import sys

import pennylane as qml
import pytest
import torch

import qlayers
from qlayers import Circuit
from shared.errors import UserError

TEXT = """\
wires 0 1 "a b"
features 3
weights w(2,3) v() x1()
let e0 = sin(x0)
RX(e0) 0
RY(e0) 1
Rot(w[0,0], -0.5*w[1,2]+1.0, v*(x2+0.1)) "a b"
CNOT 0 1
C(C0(Adjoint(RX)))(x1[()]) 0 "a b" 1
PauliRot[XIZ](sum(x0,v,w[0,1])) 0 1 "a b"
MultiRZ(1.5e-07) 1
Adjoint(S) "a b"
expval Z(0)
expval 0.5*X(0)@Z("a b") + (w[0,0]*v)*Y(1) + 2.0*I
"""


def test_text_round_trip():
    circuit = Circuit.parse(TEXT)
    assert str(circuit) == TEXT
    assert Circuit.parse(str(circuit)) == circuit
    assert hash(Circuit.parse(TEXT)) == hash(circuit)
    assert pickle.loads(pickle.dumps(circuit)) == circuit
    assert copy.deepcopy(circuit) == circuit
    assert circuit != Circuit.parse(TEXT.replace("CNOT", "CZ"))
    assert repr(circuit) == "Circuit(3 wires, 8 gates, 2 outputs; 3 features, weights w(2,3), v(), x1())"


def test_aliases_comments_and_defaults():
    circuit = Circuit.parse('H "a#b" # a comment\n\nCPhase(x1) "a#b" 3\nsingle expval Z(3)')
    assert circuit.wires == ("a#b", 3)
    assert circuit.features == 2
    assert [operation.gate for operation in circuit.operations] == ["Hadamard", "ControlledPhaseShift"]
    assert circuit.single


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Foo 0\nexpval Z(0)", "No gate 'Foo' on 1 wires"),
        ("RX 0", "takes 1 parameters, 0 are given"),
        ("CNOT 0 0", "acts on wires \\[0, 0\\]"),
        ("wires 0\nRX(x0) 1", "acts on wires \\[1\\]"),
        ("RX(w[0]) 0", "Line 1.*no weight 'w'"),
        ("weights w(2)\nRX(w[2]) 0", "Line 2.*no element \\[2\\]"),
        ("RX(x0 0", "Line 1"),
        ("RX(open('file')) 0", "Line 1.*expected an expression"),
        ("RX(x0) 0\nexpval Q(0)", "Line 2.*Pauli word"),
        ("features 1\nRX(x1) 0", "uses feature x1"),
        ("RX(sin(x0,x1)) 0", "sin takes 1"),
        ("X 0\nsingle expval Z(0)\nexpval Z(0)", "A single output"),
        ("wires 0 0", "must differ"),
        ("X(0)", "Line 1|takes 0 parameters|No gate"),
    ],
)
def test_mistakes_in_text(text, message):
    with pytest.raises(UserError, match=message):
        Circuit.parse(text)


def test_deep_and_shared_expressions_keep_their_text_short():
    def function(inputs):
        angle = inputs[..., 0]
        for _ in range(60):
            angle = torch.sin(angle) * angle + 0.1
        qml.RX(angle, wires=0)
        return qml.expval(qml.Z(0))

    circuit = Circuit.from_function(function, {})
    assert len(str(circuit)) < 20000
    assert Circuit.parse(str(circuit)) == circuit
    assert "let e58" in str(circuit)


def test_drawing():
    def function(inputs, w):
        qml.AngleEmbedding(inputs, wires=range(3))
        qml.CNOT([0, 2])
        qml.Hadamard(1)
        qml.Toffoli([2, 1, 0])
        qml.CRX(w[0, 1], wires=[1, 2])
        qml.IsingXX(torch.sin(inputs[..., 0]) * w[0, 0] + torch.cos(inputs[..., 1]) * w[1, 1], wires=[0, 1])
        return [qml.expval(qml.Z(0)), qml.expval(qml.X(2))]

    drawn = Circuit.from_function(function, {"w": (2, 2)}).draw(width=200)
    assert drawn.splitlines() == [
        "0: ──RX(x0)─╭●────╭X─────────────╭IsingXX(e0)─┤ <Z>",
        "1: ──RX(x1)─│───H─├●─╭●──────────╰IsingXX(e0)─┤",
        "2: ──RX(x2)─╰X────╰●─╰RX(w[0,1])──────────────┤ <X>",
        "e0 = sum(sin(x0)*w[0,0],cos(x1)*w[1,1])",
    ]


def test_long_drawings_wrap():
    circuit = Circuit.parse("RX(x0) 0\n" * 50 + "expval Z(0)")
    assert max(map(len, circuit.draw(width=60).splitlines())) <= 60
    assert circuit.draw(width=60).count("RX(x0)") == 50


def test_empty_circuits_draw():
    assert Circuit.parse("wires 0\nexpval Z(0)").draw() == "0: ─┤ <Z>"
    assert "returns 2*<I>" in Circuit.parse("expval 2.0*I").draw()


def test_import_is_light():
    code = (
        "import sys, torch, qlayers; heavy = {'pennylane', 'numba', 'qlayers.layer'} & set(sys.modules); "
        "assert not heavy, heavy; qlayers.QuantumLayer; assert 'pennylane' not in sys.modules; "
        "assert {'Circuit', 'QuantumLayer', 'ops'} <= set(dir(qlayers))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = qlayers.nonsense
