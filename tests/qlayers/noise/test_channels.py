"""Channels one by one: their algebra, their limits, and what may be measured after them."""

import numpy as np
import pennylane as qml
import pytest
import torch
from default_mixed import CHANNELS, expected, flat, number, slopes
from torch.testing import assert_close

from qlayers import Circuit, QuantumLayer
from qlayers.noise import with_noise
from qlayers.noise.channels import TABLE, jumps, probabilities, transfer
from qlayers.noise.maps import matrix_of
from qlayers.program import Captured
from shared.errors import UserError


def run(text: str, x=None, trajectories=None):
    circuit = Circuit.parse(text)
    x = torch.zeros(1, circuit.features, dtype=torch.float64) if x is None else x
    return Captured.of(circuit, x.shape[-1], trajectories=trajectories).run(x, [])


@pytest.mark.parametrize("name", CHANNELS)
def test_values_and_slopes(name):
    count, span, make = CHANNELS[name]

    def function(inputs, w, as_number):
        qml.RX(inputs[..., 0], 0)
        qml.RY(w[0], 1)
        make(
            [as_number(0.2 + 0.1 * torch.sigmoid(w[1])), as_number(0.3 * torch.sigmoid(inputs[..., 1]))][
                :count
            ],
            [0, 1][:span],
        )
        qml.CNOT([1, 0])
        qml.Rot(w[0], 0.3, w[1], 0)
        return [qml.expval(qml.X(0) @ qml.Z(1)), qml.probs(wires=[0, 1]), qml.var(qml.Y(0))]

    x = torch.tensor([[0.3, 0.5], [1.1, -0.7]], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([0.4, -0.8], dtype=torch.float64)
    layer = QuantumLayer(lambda inputs, w: function(inputs, w, lambda v: v), {"w": 2}, {"w": w}, features=2)
    out, wanted = flat(layer(x), 2), expected(function, x, layer.w)
    assert_close(out, wanted, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(out)
    assert_close(*(slopes(value, [x, layer.w], cotangent) for value in (out, wanted)), rtol=1e-9, atol=1e-9)


def test_an_error_with_y_is_a_mixture():
    """PauliError is 1 - p of the circuit and p of the circuit with the word, also for slopes."""
    lines = (
        "RX(x0) 0\nRY(0.4) 1\nCNOT 0 1\n{}\nRX(0.3) 0\nCRZ(x0) 0 1\nRY(0.2) 1\nexpval Z(0)@X(1)\nprobs 0 1"
    )
    x = torch.tensor([[0.7, 0.3]], dtype=torch.float64, requires_grad=True)
    found = run("features 2\n" + lines.format("PauliError[YX](x1) 1 0"), x)
    plain, word = (run("features 2\n" + lines.format(gates), x) for gates in ("", "Y 1\nX 0"))
    mixed = (1 - x[:, 1:]) * plain + x[:, 1:] * word
    assert_close(found, mixed)
    assert_close(*(torch.autograd.grad(out.sin().sum(), x, retain_graph=True) for out in (found, mixed)))


def test_slopes_of_a_relaxation():
    """Thermal relaxation is generalized damping, then what phase damping T2 asks for beyond it."""
    thermal = "features 4\nRX(0.9) 0\nRZ(0.3) 0\nThermalRelaxationError(x0,x1,x2,x3) 0\n"
    x = torch.tensor([[0.2, 1.1, 1.4, 0.3]], dtype=torch.float64, requires_grad=True)
    pe, t1, t2, tg = x.unbind(-1)
    damped = "features 3\nRX(0.9) 0\nRZ(0.3) 0\nGeneralizedAmplitudeDamping(x0,x1) 0\nPhaseDamping(x2) 0\n"
    numbers = torch.stack([1 - torch.exp(-tg / t1), pe, 1 - torch.exp(tg / t1 - 2 * tg / t2)], -1)
    other = run(damped + "expval X(0)\nexpval Y(0)\nexpval Z(0)", numbers)
    found = run(thermal + "expval X(0)\nexpval Y(0)\nexpval Z(0)", x)
    assert_close(found, other)
    cotangent = torch.tensor([1.0, -0.4, 0.3], dtype=torch.float64)
    assert_close(
        *(torch.autograd.grad((out * cotangent).sum(), x, retain_graph=True) for out in (found, other))
    )


@pytest.mark.parametrize("name", TABLE)
def test_operators_make_the_transfer_matrix(name):
    row = TABLE[name]
    values = {"p": 0.3, "gamma": 0.2, "p_0": 0.1, "p_1": 0.25, "pe": 0.4, "t1": 1.1, "t2": 1.3, "tg": 0.2}
    numbers = torch.tensor([values[parameter] for parameter in row.parameters], dtype=torch.float64)
    if row.flips:
        chances = probabilities(row, numbers.unbind(-1))
        paulis = [qml.matrix(op(0)) for op in (qml.Identity, qml.X, qml.Y, qml.Z)]
        operators = np.array([p**0.5 * m for p, m in zip(chances.tolist(), paulis, strict=True)])
    else:
        pairs = jumps(row, numbers.unbind(-1)).numpy()
        operators = pairs[:, 0] + 1j * pairs[:, 1]
    flat_operators = torch.tensor(np.concatenate([operators.real.ravel(), operators.imag.ravel()]))
    assert_close(matrix_of("QubitChannel", flat_operators, 1), transfer(row, numbers.unbind(-1)))


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_ends_of_the_range(gamma):
    """Kraus operators that never act have no slope that is not a number."""
    lines = "RX(x0) 0\nAmplitudeDamping({0}) 0\nGeneralizedAmplitudeDamping({0},{0}) 0\nBitFlip({0}) 0\n"
    lines += "RX(x0) 0\nexpval Z(0)"
    x = torch.tensor([[0.4]], dtype=torch.float64, requires_grad=True)
    exact, sampled = (run(lines.format(gamma), x, trajectories) for trajectories in (None, 3))
    assert torch.isfinite(torch.autograd.grad(sampled.sum(), x)[0]).all()
    assert torch.isfinite(torch.autograd.grad(exact.sum(), x)[0]).all()


MISTAKES = {
    "BitFlip(1.2) 0": "expected a probability p from 0 to 1, received 1.2",
    "AmplitudeDamping(-0.1) 0": "expected a probability gamma from 0 to 1, received -0.1",
    "BitFlip(nan) 0": "expected finite parameters, received p = nan",
    "BitFlip(0.1,0.2) 0": r"takes 1 parameters \(p\), 2 are given",
    "PauliError[XY](0.1) 0": "expected 2 wires, received 1",
    "BitFlip(0.1) 0 1": "expected 1 wires, received 2",
    "ResetError(0.6,0.6) 0": "expected p_0 \\+ p_1 of at most 1",
    "ThermalRelaxationError(0.1,1,3,0.1) 0": "expected T2 of at most 2 T1",
    "ThermalRelaxationError(0.1,0,0,0.1) 0": "expected a positive T1",
    "ThermalRelaxationError(0.1,1,1,-1) 0": "expected a gate time",
    "QubitChannel[1,0,0,1,1,0,0,1] 0": "add up to the identity, received a sum that is off by 1",
    "QubitChannel[1,0,0] 0": "expected 4 numbers for each Kraus operator, received 3",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_in_constants(line):
    with pytest.raises(UserError, match=MISTAKES[line]):
        Circuit.parse(f"RX(0.1) 1\n{line}\nexpval Z(0)")


@pytest.mark.parametrize("trajectories", [None, 3])
@pytest.mark.parametrize("channel", ["BitFlip(x0) 0", "AmplitudeDamping(x0) 0"])
def test_computed_probabilities_out_of_range(channel, trajectories):
    with pytest.raises(UserError, match=r"expected a probability .* from 0 to 1, received 0.5 to 1.5"):
        run(f"{channel}\nexpval Z(0)", torch.tensor([[0.5], [1.5]]), trajectories)


def test_measurements_that_mixed_states_do_not_have():
    with pytest.raises(UserError, match="state: expected a circuit without noise channels"):
        run("BitFlip(0.1) 0\nstate")


def test_kraus_operators_of_weights():
    """All real parts stand before all imaginary ones."""
    fall = "QubitChannel(1.0,0.0,0.0,sqrt(1.0-w), 0.0,sqrt(w),0.0,0.0, 0.0,0.0,0.0,0.0, 0.0,0.0,0.0,0.0) 0"
    w, x = (
        torch.tensor(0.3, dtype=torch.float64, requires_grad=True),
        torch.tensor([[0.4], [1.2]], dtype=torch.float64),
    )
    found = []
    for line in (fall, "AmplitudeDamping(w) 0"):
        program = Captured.of(Circuit.parse(f"weights w()\nRX(x0) 0\n{line}\nexpval Z(0)\nexpval Y(0)"), 1)
        out = program.run(x, [w])
        found.append((out.detach(), *torch.autograd.grad(out.sin().sum(), w)))
    assert_close(*found)

    def function(inputs, w):
        qml.QubitChannel([torch.stack([w, w]), torch.stack([w, w])], wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(UserError, match="expected constant Kraus matrices"):
        QuantumLayer(function, {"w": 2}, features=1)


def test_variance_with_coefficients_that_are_weights():
    text = "weights w(2)\nfeatures 1\nRX(x0) 0\nCRY(0.4) 0 1\nAmplitudeDamping(0.2) 0\n"
    observable = "w[0]*Z(0) + w[1]*X(0)@Z(1) + 0.5*Y(1)"
    w = torch.tensor([0.7, -1.1], dtype=torch.float64)
    found = Captured.of(Circuit.parse(f"{text}var {observable}"), 1).run(
        torch.tensor([[0.3]], dtype=torch.float64), [w]
    )
    matrix = 0.7 * np.kron(*map(qml.matrix, (qml.Z(0), qml.I(0)))) - 1.1 * np.kron(
        *map(qml.matrix, (qml.X(0), qml.Z(0)))
    )
    matrix = matrix + 0.5 * np.kron(*map(qml.matrix, (qml.I(0), qml.Y(0))))
    rho = Captured.of(Circuit.parse(f"{text}single density 0 1"), 1).run(
        torch.tensor([[0.3]], dtype=torch.float64), [w]
    )
    rho = rho[0].numpy()
    wanted = np.trace(rho @ matrix @ matrix).real - np.trace(rho @ matrix).real ** 2
    assert_close(found.item(), wanted)


@pytest.mark.parametrize("wires", [5, 6])
def test_large_density_matrices(wires):
    """They are made by a transform, and agree with the words that they are made of."""
    gates = "".join(
        f"RX({0.3 + i}) {i}\nRZ({0.2 * i}) {i}\nAmplitudeDamping(0.1) {i}\n" for i in range(wires)
    )
    gates += "".join(f"CNOT {i} {i + 1}\nRY(0.4) {i}\n" for i in range(wires - 1))
    on = " ".join(map(str, range(wires)))
    rho = run(f"{gates}single density {on}")[0]
    word = "XZYXYZ"[:wires]
    value = run(gates + "expval " + "@".join(f"{letter}({i})" for i, letter in enumerate(word)))
    matrix = torch.tensor(qml.pauli.string_to_pauli_word(word).matrix(wire_order=range(wires)))
    assert_close(torch.trace(rho @ matrix).real, value[0, 0])
    assert_close(rho.diagonal().real, run(f"{gates}single probs {on}")[0])
    assert_close(torch.trace(rho @ rho).real, run(f"{gates}purity {on}")[0, 0])
    assert_close(rho, rho.mH)


def noisy_model():
    return qml.NoiseModel(
        {
            qml.noise.op_eq(qml.RX): qml.noise.partial_wires(qml.AmplitudeDamping, 0.1),
            qml.noise.op_in([qml.CNOT]) & qml.noise.wires_in([1]): lambda op, **kwargs: [
                qml.DepolarizingChannel(kwargs["p"], wires=wire) for wire in op.wires
            ],
        },
        {qml.noise.meas_eq(qml.expval): qml.noise.partial_wires(qml.BitFlip, 0.05)},
        p=0.08,
    )


def modelled(inputs, w):
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.CNOT([0, 1])
    qml.RX(w, 1)
    return qml.expval(qml.Z(1))


@pytest.mark.parametrize("kind", ["function", "qnode"])
def test_noise_models(kind):
    function = modelled if kind == "function" else qml.QNode(modelled, qml.device("default.qubit", wires=2))
    w, x = torch.tensor(0.4, dtype=torch.float64), torch.rand(3, 2, dtype=torch.float64)
    layer = QuantumLayer(function, {"w": ()}, {"w": w}, noise_model=noisy_model())
    node = qml.noise.add_noise(qml.QNode(modelled, qml.device("default.mixed", wires=2)), noisy_model())
    assert_close(layer(x), torch.stack([node(row, w) for row in x]))
    assert "modelled" in repr(layer)
    assert "BitFlip(0.05)" in layer.draw()
    assert Circuit.parse(str(layer.circuit)) == layer.circuit


def test_mistakes_with_noise_models():
    with pytest.raises(UserError, match=r"expected a qml.NoiseModel, received dict"):
        with_noise(modelled, {})
    with pytest.raises(UserError, match="write its channels into it"):
        with_noise(Circuit.parse("RX(x0) 0\nexpval Z(0)"), noisy_model())


def test_save_and_load(tmp_path):
    circuit = Circuit.parse(
        "weights w()\nRX(x0) 0\nAmplitudeDamping(sigmoid(w)) 0\nPauliError[ZX](0.1) 0 1\nexpval Z(0)"
    )
    layer, x = QuantumLayer(circuit), torch.rand(3, 1)
    layer.save(tmp_path / "layer.pt")
    assert_close(QuantumLayer.load(tmp_path / "layer.pt")(x), layer(x))


def test_transforms_of_torch():
    """Compiled, mapped and forward-mode passes give what eager ones give."""
    circuit = Circuit.parse(
        "features 2\nweights w(2)\nRX(x0) 0\nAmplitudeDamping(sigmoid(w[0])) 0\nCNOT 0 1\nRY(w[1]) 1\n"
        "BitFlip(sigmoid(x1)) 1\nexpval Z(1)\nprobs 0"
    )
    layer = QuantumLayer(circuit).double()
    x = torch.rand(3, 2, dtype=torch.float64)

    def of(w, x):
        return torch.func.functional_call(layer, {"w": w}, (x,))

    w = layer.w.detach()
    wanted = torch.func.jacrev(of)(w, x)
    assert_close(torch.func.jacfwd(of)(w, x), wanted)
    assert_close(torch.func.vmap(lambda row: of(w, row[None])[0])(x), layer(x))
    assert_close(torch.compile(layer, fullgraph=True)(x), layer(x))
    assert number(1.0).dtype == torch.float64
