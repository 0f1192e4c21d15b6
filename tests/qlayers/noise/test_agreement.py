"""Random noisy circuits against PennyLane's default.mixed: values and derivatives.

`QBIO_CIRCUITS=2000 pytest tests/qlayers/noise/test_agreement.py` runs so many.
"""

import os

import numpy as np
import pennylane as qml
import pytest
import torch
from default_mixed import CHANNELS, expected, flat, number, slopes
from torch.testing import assert_close

from qlayers import Circuit, QuantumLayer

CIRCUITS = int(os.environ.get("QBIO_CIRCUITS", "40"))
FEATURES, WEIGHTS, BATCH = 2, 4, 2
HERMITIAN = np.array([[1.2, 0.3 - 0.8j], [0.3 + 0.8j, -0.5]])

ANGLES = [  # of rotations, from the features, the weights and one constant
    lambda x, w, c: x[..., 0],
    lambda x, w, c: w[0] * x[..., 1] + c,
    lambda x, w, c: w[1] - 2 * w[2],
    lambda x, w, c: c,
    lambda x, w, c: np.pi / 2,
]
CHANCES = [  # of channels, between 0.03 and 0.45
    lambda x, w, c: 0.03 + c**2 / (5 + 2 * c**2),
    lambda x, w, c: 0.05 + 0.4 * torch.sigmoid(x[..., 0]),
    lambda x, w, c: 0.1 + 0.3 * torch.sigmoid(w[3] * x[..., 1]),
    lambda x, w, c: 0.2 + 0.2 * torch.tanh(w[2]) * 0.9,
]
GATES = {
    "RX": (1, 1),
    "RZ": (1, 1),
    "Rot": (3, 1),
    "Hadamard": (0, 1),
    "S": (0, 1),
    "T": (0, 1),
    "CNOT": (0, 2),
    "CZ": (0, 2),
    "ISWAP": (0, 2),
    "CRY": (1, 2),
    "IsingXX": (1, 2),
    "SingleExcitation": (1, 2),
}
MEASURED = {
    "word": lambda on, word, c: qml.expval(qml.pauli.string_to_pauli_word(word)),
    "sum": lambda on, word, c: qml.expval(
        qml.dot([c, 0.7], [qml.pauli.string_to_pauli_word(word), qml.Z(on[0])])
    ),
    "hermitian": lambda on, word, c: qml.expval(qml.Hermitian(HERMITIAN, wires=on[:1])),
    "projector": lambda on, word, c: qml.expval(qml.Projector([1, 0][: len(on)], wires=on[:2])),
    "var": lambda on, word, c: qml.var(qml.pauli.string_to_pauli_word(word)),
    "var of a matrix": lambda on, word, c: qml.var(qml.Hermitian(HERMITIAN, wires=on[:1])),
    "probs": lambda on, word, c: qml.probs(wires=on),
    "probs in a basis": lambda on, word, c: qml.probs(op=qml.Hadamard(on[0])),
    "purity": lambda on, word, c: qml.purity(wires=on),
    "entropy": lambda on, word, c: qml.vn_entropy(wires=on[:1]),
    "mutual information": lambda on, word, c: (
        qml.mutual_info(on[:1], on[1:]) if len(on) > 1 else qml.vn_entropy(wires=on, log_base=2)
    ),
    "density": lambda on, word, c: qml.density_matrix(wires=on),
}


def circuit_of(seed: int):
    """A function of inputs, weights and how constants are made numbers, all from one seed."""
    draw = np.random.default_rng(seed)
    wires = int(draw.integers(1, 5))
    steps = []
    for _ in range(int(draw.integers(3, 11))):
        names = list(CHANNELS) if draw.random() < 0.5 else list(GATES)
        name = str(draw.choice(names))
        count, span = CHANNELS[name][:2] if name in CHANNELS else GATES[name]
        if span > wires:
            continue
        on = [int(wire) for wire in draw.permutation(wires)[:span]]
        table = CHANCES if name in CHANNELS else ANGLES
        made = [(table[int(draw.integers(len(table)))], float(draw.normal())) for _ in range(count)]
        steps.append((name, on, made))
    on = [int(wire) for wire in draw.permutation(wires)[: int(draw.integers(1, min(wires, 3) + 1))]]
    word = "".join(draw.choice(list("XYZ"), wires))
    kinds = [str(kind) for kind in draw.choice([kind for kind in MEASURED if kind != "density"], 2)]
    kinds = ["density"] if seed % 7 == 0 else kinds
    c = float(draw.normal())

    def run(inputs, w, number):
        for wire in range(wires):
            qml.RY(number(0.3 + 0.4 * wire), wires=wire)
        for name, on, made in steps:
            values = [number(make(inputs, w, c)) for make, c in made]
            if name in CHANNELS:
                CHANNELS[name][2](values, on)
            else:
                getattr(qml, name)(*values, wires=on)
        qml.DepolarizingChannel(number(0.05), wires=0)  # one channel at least
        return [MEASURED[kind](measured_on, word, c) for kind in kinds]

    measured_on = on
    return run


@pytest.mark.parametrize("first", range(0, CIRCUITS, 20))
def test_random_circuits(first):
    for seed in range(first, min(first + 20, CIRCUITS)):
        compare(circuit_of(seed), seed)


def compare(run, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, FEATURES, generator=generator, dtype=torch.float64).requires_grad_()
    w = torch.randn(WEIGHTS, generator=generator, dtype=torch.float64)
    layer = QuantumLayer(
        lambda inputs, w: run(inputs, w, lambda v: v), {"w": WEIGHTS}, {"w": w}, features=FEATURES
    )
    text = str(layer.circuit)
    assert Circuit.parse(text) == layer.circuit
    out, wanted = flat(layer(x), BATCH), expected(run, x, layer.w)
    assert_close(out, wanted, rtol=1e-10, atol=1e-10, msg=lambda m: f"seed {seed}\n{text}\n{m}")
    cotangent = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    found, right = (slopes(value, [x, layer.w], cotangent) for value in (out, wanted))
    assert_close(found, right, rtol=1e-9, atol=1e-9, msg=lambda m: f"seed {seed}\n{text}\n{m}")

    x32 = x.detach().float().requires_grad_()
    out32 = flat(layer.float()(x32), BATCH)
    assert out32.dtype == torch.float32
    assert_close(out32.double(), wanted, rtol=1e-5, atol=1e-5)
    found32 = slopes(out32, [x32, layer.w], cotangent.float())
    assert_close([slope.double() for slope in found32], right, rtol=2e-5, atol=2e-5)


def test_derivatives_of_second_order():
    """They agree with those of default.mixed by backpropagation."""

    def run(inputs, w, number):
        qml.RX(inputs[..., 0], 0)
        qml.RY(w[0], 1)
        qml.AmplitudeDamping(0.1 + 0.3 * torch.sigmoid(w[1]), wires=0)
        qml.CNOT([0, 1])
        qml.DepolarizingChannel(0.1 + 0.3 * torch.sigmoid(inputs[..., 1]), wires=1)
        qml.RX(w[2], 1)
        return [qml.expval(qml.Z(0)), qml.probs(wires=[1]), qml.purity(wires=[0])]

    w = torch.tensor([0.3, -0.4, 1.1, 0.2], dtype=torch.float64)
    layer = QuantumLayer(lambda inputs, w: run(inputs, w, number), {"w": 4}, {"w": w}, features=2)
    x = torch.tensor([[0.4, -0.2], [1.0, 0.7]], dtype=torch.float64, requires_grad=True)
    found = []
    for out in (flat(layer(x), 2), expected(run, x, layer.w)):
        first = torch.autograd.grad(out.sin().sum(), [x, layer.w], create_graph=True)
        found.append(torch.autograd.grad(sum((g * g).sum() for g in first), [x, layer.w]))
    assert_close(*found, rtol=1e-9, atol=1e-9)
