"""Random circuits over the whole gate table against PennyLane's default.qubit: values and derivatives.

`QBIO_CIRCUITS=2000 pytest tests/qlayers/test_agreement.py` runs so many, a tenth of them to second order.
"""

import math
import os

import pennylane as qml
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from pennylane.devices.qubit import simulate
from torch.autograd import gradcheck, gradgradcheck

from qlayers import Circuit, QuantumLayer
from qlayers.gates import CONTROLLED, TABLE, gate

CIRCUITS = int(os.environ.get("QBIO_CIRCUITS", "100"))
FEATURES, WEIGHTS, BATCH = 3, 6, 2

# name: wires, None for any number
GATES = {name: next(n for n in (1, 2, 3) if gate(name, n)) for name in (*TABLE, *CONTROLLED)}
GATES |= {"MultiRZ": None, "PauliRot": None, "QubitUnitary": 1, "DoubleExcitation": 4, "OrbitalRotation": 4}
UNITARY = qml.matrix(qml.Rot(0.3, 1.2, -0.4, wires=0))
HERMITIAN = torch.tensor([[1.2, 0.3 - 0.8j], [0.3 + 0.8j, -0.5]], dtype=torch.complex128)

# how an angle follows from the features (columns of x), the weights and one constant; all smooth
ANGLES = [
    lambda x, w, c: x[..., 0],
    lambda x, w, c: x[..., 1] * math.pi + c,
    lambda x, w, c: -x[..., 0],
    lambda x, w, c: w[0],
    lambda x, w, c: w[1, ...] - 2 * w[2],
    lambda x, w, c: c,
    lambda x, w, c: torch.tensor(c, dtype=torch.float64),
    lambda x, w, c: math.pi / 2,
    lambda x, w, c: math.pi / 4,
    lambda x, w, c: -math.pi,
    lambda x, w, c: torch.sin(x[..., 2]) * w[3] + c,
    lambda x, w, c: x @ w[:3],
    lambda x, w, c: torch.tanh(x).sum(-1) / 2,
    lambda x, w, c: (x * w[3:]).prod(-1),
    lambda x, w, c: qml.math.cos(w[4]) ** 2 + x[..., 0] / 3,
    lambda x, w, c: torch.where(x[..., 1] > 0.1, x[..., 1], w[5]),
    lambda x, w, c: torch.softmax(w, 0)[2] * torch.exp(-(x[..., 0] ** 2)),
]

# what is done to a gate -> the number of further wires that it takes, and how
AROUND = {
    "plain": (0, lambda op, extra, bits: op),
    "adjoint": (0, lambda op, extra, bits: qml.adjoint(op)),
    "controlled": (1, lambda op, extra, bits: qml.ctrl(op, extra, control_values=bits[:1])),
    "twice controlled": (2, lambda op, extra, bits: qml.ctrl(op, extra, control_values=bits)),
    "adjoint of controlled": (
        1,
        lambda op, extra, bits: qml.adjoint(qml.ctrl(op, extra, control_values=bits[:1])),
    ),
}


def pauli(word):
    return qml.pauli.string_to_pauli_word(word)


# observables of a word over all wires, another one, a wire and a number
OBSERVABLES = {
    "word": lambda a, b, wire, c: pauli(a),
    "sum": lambda a, b, wire, c: qml.dot([c, 0.7, -0.2], [pauli(a), pauli(b), qml.Z(wire)]),
    "hamiltonian": lambda a, b, wire, c: qml.Hamiltonian([c, 1.0], [pauli(a), pauli(b)]),
    "hermitian": lambda a, b, wire, c: qml.Hermitian(HERMITIAN.numpy(), wires=wire),
    "hadamard": lambda a, b, wire, c: qml.Hadamard(wire),
    "projector": lambda a, b, wire, c: qml.Projector([1], wires=wire),
}

# measurements of an observable and some wires; several of the real ones may go together
REAL = {
    "expval": lambda observable, on: qml.expval(observable()),
    "var": lambda observable, on: qml.var(observable()),
    "probs": lambda observable, on: qml.probs(wires=on),
    "purity": lambda observable, on: qml.purity(wires=on),
}
COMPLEX = {
    "state": lambda observable, on: qml.state(),
    "density": lambda observable, on: qml.density_matrix(wires=on),
}
# without a derivative where a subsystem is pure: their values are compared
LOGARITHMIC = {
    "entropy": lambda observable, on: qml.vn_entropy(wires=on),
    "mutual information": lambda observable, on: (
        qml.mutual_info(on[:1], on[1:]) if len(on) > 1 else qml.vn_entropy(wires=on, log_base=2)
    ),
}
MEASUREMENTS = {**REAL, **COMPLEX, **LOGARITHMIC}

# how a circuit begins, with some wires
BEGINNINGS = {
    "zero": lambda x, on: None,
    "basis state": lambda x, on: qml.BasisState([1, 0, 1, 1, 0][: len(on)], wires=on),
    "state": lambda x, on: qml.StatePrep([0.6, 0.8j], wires=on[:1]),
    "features": lambda x, on: qml.AmplitudeEmbedding(x, wires=on[:2], pad_with=0.3, normalize=True),
}


@st.composite
def gates(draw, wires: int):
    """(build, angles): a function from parameters to an operator, and the kinds of its parameters."""
    name = draw(st.sampled_from(sorted(GATES)))
    count = GATES[name] or draw(st.integers(1, wires))
    if count > wires:
        name, count = "RY", 1
    on = draw(st.permutations(range(wires)))
    on, rest = on[:count], on[count:]
    word = draw(st.text("XYZI", min_size=count, max_size=count)) if name == "PauliRot" else None
    number = 0 if name == "QubitUnitary" else getattr(qml, name).num_params
    angles = draw(
        st.lists(st.tuples(st.sampled_from(ANGLES), st.floats(-4, 4)), min_size=number, max_size=number)
    )
    extra, around = AROUND[draw(st.sampled_from(["plain"] * 3 + list(AROUND)))]
    bits = draw(st.lists(st.booleans(), min_size=2, max_size=2))
    if extra > len(rest):
        extra, around = AROUND["plain"]

    def build(*parameters):
        if name == "QubitUnitary":
            inner = qml.QubitUnitary(UNITARY, wires=on)
        else:
            inner = getattr(qml, name)(*parameters, *([word] if word else []), wires=on)
        return around(inner, rest[:extra], bits)

    return build, angles


@st.composite
def measurements(draw, wires: int, kinds):
    """A function that makes a measurement of one of the kinds."""
    kind = draw(st.sampled_from(sorted(kinds)))
    observable = draw(st.sampled_from(sorted(OBSERVABLES)))
    words = draw(st.tuples(*[st.text("IXYZ", min_size=wires, max_size=wires)] * 2))
    on = draw(st.permutations(range(wires)))[: draw(st.integers(1, wires))]
    factor = draw(st.floats(-2, 2))

    def made():  # only where it is measured: PennyLane records all that is made
        return OBSERVABLES[observable](*words, on[0], factor)

    return lambda: MEASUREMENTS[kind](made, on)


@st.composite
def functions(draw, most: int = 9, kinds=None):
    """A quantum function of inputs and weights, with one to four real results or a complex one."""
    wires = draw(st.integers(1, 5))
    begin = BEGINNINGS[draw(st.sampled_from(["zero"] * 4 + list(BEGINNINGS)))] if wires > 1 else None
    on = draw(st.permutations(range(wires)))
    chosen = draw(st.lists(gates(wires), min_size=1, max_size=most))
    real = draw(st.lists(measurements(wires, kinds or REAL), min_size=1, max_size=4))
    measured = real if kinds or draw(st.integers(0, 4)) else [draw(measurements(wires, COMPLEX))]
    halfway = (
        draw(st.sampled_from([None] * 5 + [len(chosen) // 2])) if wires > 1 and measured is real else None
    )

    def run(inputs, w, number):
        if begin:
            begin(inputs, on)
        for place, (build, angles) in enumerate(chosen):
            if place == halfway:
                outcome = qml.measure(on[0])
                qml.cond(outcome, qml.RY)(number(inputs[..., 0]), wires=on[1])
            build(*[number(make(inputs, w, c)) for make, c in angles])
        return [make() for make in measured]

    return run


def as_is(value):
    return value


def flat(results, batch):
    """(batch, numbers): everything that was returned, complex numbers as pairs."""
    parts = results if isinstance(results, tuple | list) else [results]
    parts = [torch.view_as_real(part) if part.is_complex() else part for part in map(torch.as_tensor, parts)]
    return torch.cat([part.reshape(batch, -1) for part in parts], -1)


def expected(run, x, w):
    """Values by PennyLane, sample by sample, made for backpropagation.

    Its matrices fail on some batches and where parameters are in part tensors, in part numbers: so this way.
    """
    rows = []
    for sample in x:
        tape = qml.tape.make_qscript(run)(
            sample, w, lambda value: torch.as_tensor(value, dtype=torch.float64)
        )
        (tape,), _ = qml.defer_measurements(tape)
        results = simulate(tape, interface="torch")  # else a NumPy state meets torch angles in PhaseShift
        rows.append(flat(results, 1).to(torch.float64))
    return torch.cat(rows)


def gradients(out, leaves, cotangent, **options):
    """Those of the sum of out * cotangent, zero where there are none."""
    if not out.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad((out * cotangent).sum(), leaves, allow_unused=True, **options)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]


def layer_of(run, seed):
    """A layer, inputs and a generator of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, FEATURES, generator=generator, dtype=torch.float64).requires_grad_()
    w = torch.randn(WEIGHTS, generator=generator, dtype=torch.float64)
    layer = QuantumLayer(lambda inputs, w: run(inputs, w, as_is), {"w": WEIGHTS}, {"w": w}, features=FEATURES)
    note(str(layer.circuit))
    return layer, x, generator


def close(found, wanted, error):
    torch.testing.assert_close(found, wanted, rtol=error, atol=error)


every = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # the circuit is printed; making it smaller would take minutes
)


@settings(every, max_examples=CIRCUITS)
@given(run=functions(), seed=st.integers(0, 2**16))
def test_random_circuits(run, seed):
    layer, x, generator = layer_of(run, seed)
    assert Circuit.parse(str(layer.circuit)) == layer.circuit
    out = flat(layer(x), BATCH)
    assert out.dtype == torch.float64
    cotangent = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    values = expected(run, x, layer.w)
    slopes = gradients(values, (x, layer.w), cotangent)
    close(out, values, 1e-10)
    close(gradients(out, (x, layer.w), cotangent), slopes, 1e-10)

    x32 = x.detach().float().requires_grad_()
    out32 = flat(layer.float()(x32), BATCH)
    assert out32.dtype == torch.float32
    close(out32.double(), values, 1e-5)
    slopes32 = gradients(out32, (x32, layer.w), cotangent.float())
    close([slope.double() for slope in slopes32], slopes, 1e-5)


@settings(every, max_examples=CIRCUITS // 10)
@given(run=functions(most=6), seed=st.integers(0, 2**16))
def test_random_circuits_to_second_order(run, seed):
    layer, x, generator = layer_of(run, seed)
    leaves = (x, layer.w)
    found = []
    for out in (flat(layer(x), BATCH), expected(run, *leaves)):
        generator.manual_seed(seed)
        cotangent = torch.randn(out.shape, generator=generator, dtype=torch.float64)
        first = gradients(out, leaves, cotangent, create_graph=True)
        along = sum(
            (slope * torch.randn(slope.shape, generator=generator, dtype=torch.float64)).sum()
            for slope in first
        )
        found.append([*first, *gradients(along, leaves, 1.0)])
    close(*found, 1e-10)


@settings(every, max_examples=CIRCUITS // 10)
@given(run=functions(kinds=LOGARITHMIC), seed=st.integers(0, 2**16))
def test_random_entropies(run, seed):
    layer, x, _ = layer_of(run, seed)
    values = expected(run, x, layer.w)
    close(flat(layer(x), BATCH), values, 1e-10)
    close(flat(layer.float()(x.float()), BATCH).double(), values, 1e-5)


def surrounded(name, wires):
    """A gate between rotations that make all its parts matter, with inputs and weights as its angles."""
    parameters = ["x1", "w[0]", "2.0*x2 + 0.3"][: gate(name, wires).parameters]
    on = " ".join(map(str, range(wires)))
    lines = ["features 3", "weights w(2)"]
    lines += [f"RX({0.4 + 0.3 * i}) {i}\nRZ(x0) {i}\nRY({0.9 - 0.2 * i}) {i}" for i in range(wires)]
    lines += [f"{name}{'(' + ','.join(parameters) + ')' if parameters else ''} {on}", "RX(w[1]) 0"]
    lines += [f"RY({0.3 + 0.1 * i}) {i}" for i in range(wires)]
    words = ["@".join(f"{letter}({i})" for i in range(wires)) for letter in "XY"]
    return Circuit.parse("\n".join([*lines, f"expval Z(0) + 0.5*{words[0]}", f"expval {words[1]}"]))


NAMED = [(name, count) for name, count in GATES.items() if count and gate(name, count)]
NAMED += [("MultiRZ", 2), ("PauliRot[XYZ]", 3), ("Adjoint(SISWAP)", 2), ("C0(Rot)", 2), ("C(C0(RY))", 3)]


@pytest.mark.parametrize(("name", "wires"), NAMED, ids=[name for name, _ in NAMED])
def test_gradcheck(name, wires):
    layer = QuantumLayer(surrounded(name, wires)).double()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(2, 3, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.rand(2, generator=generator, dtype=torch.float64).requires_grad_()

    def run(inputs, w):
        return torch.func.functional_call(layer, {"w": w}, (inputs,))

    assert gradcheck(run, (inputs, weights), fast_mode=True)
    assert gradgradcheck(run, (inputs, weights), fast_mode=True)
