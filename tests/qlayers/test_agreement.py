"""Random circuits over the whole gate table against PennyLane's default.qubit: values and gradients."""

import math

import pennylane as qml
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pennylane.devices.qubit import simulate

from qlayers import Circuit, QuantumLayer
from qlayers.gates import CONTROLLED, TABLE

FEATURES, WEIGHTS, BATCH = 3, 6, 2
GATES = [*TABLE, *CONTROLLED, "MultiRZ", "PauliRot", "DoubleExcitation", "OrbitalRotation", "QubitUnitary"]

# how an angle follows from the features (columns of x), the weights and one constant; all smooth
ANGLES = [
    lambda x, w, c: x[..., 0],
    lambda x, w, c: x[..., 1] * math.pi + c,
    lambda x, w, c: w[0],
    lambda x, w, c: w[1, ...] - 2 * w[2],
    lambda x, w, c: c,
    lambda x, w, c: torch.tensor(c, dtype=torch.float64),
    lambda x, w, c: math.pi / 2,
    lambda x, w, c: -math.pi,
    lambda x, w, c: torch.sin(x[..., 2]) * w[3] + c,
    lambda x, w, c: x @ w[:3],
    lambda x, w, c: torch.tanh(x).sum(-1) / 2,
    lambda x, w, c: (x * w[3:]).prod(-1),
    lambda x, w, c: qml.math.cos(w[4]) ** 2 + x[..., 0] / 3,
    lambda x, w, c: torch.where(x[..., 1] > 0.1, x[..., 1], w[5]),
    lambda x, w, c: torch.softmax(w, 0)[2] * torch.exp(-(x[..., 0] ** 2)),
]


@st.composite
def gates(draw, wires: int):
    """(build, angles): a function from parameters to an operator, and the kinds of its parameters."""
    name = draw(st.sampled_from(GATES))
    if name in ("MultiRZ", "PauliRot"):
        count = draw(st.integers(1, wires))
    else:
        count = 1 if name == "QubitUnitary" else getattr(qml, name).num_wires
    if count > wires:
        name, count = "RY", 1
    on = draw(st.permutations(range(wires)))[:count]
    word = draw(st.text("XYZI", min_size=count, max_size=count)) if name == "PauliRot" else None
    number = 0 if name == "QubitUnitary" else getattr(qml, name).num_params
    angles = draw(
        st.lists(st.tuples(st.sampled_from(ANGLES), st.floats(-4, 4)), min_size=number, max_size=number)
    )
    rest = [wire for wire in range(wires) if wire not in on]
    outer = draw(st.sampled_from(["plain", "plain", "plain", "adjoint", "ctrl"]))
    value = draw(st.booleans())

    def build(*parameters):
        if name == "QubitUnitary":
            return qml.QubitUnitary(qml.matrix(qml.Rot(0.3, 1.2, -0.4, wires=0)), wires=on)
        extra = (word,) if word else ()
        make = lambda: getattr(qml, name)(*parameters, *extra, wires=on)  # noqa: E731
        if outer == "adjoint":
            return qml.adjoint(make())
        return qml.ctrl(make(), rest[0], control_values=[value]) if outer == "ctrl" and rest else make()

    return build, angles


@st.composite
def functions(draw):
    """A quantum function of inputs and weights, with one to four outputs."""
    wires = draw(st.integers(1, 5))
    chosen = draw(st.lists(gates(wires), min_size=1, max_size=9))
    words = st.lists(st.text("IXYZ", min_size=wires, max_size=wires), min_size=1, max_size=3)
    sums = draw(st.lists(st.tuples(words, st.floats(-2, 2)), min_size=1, max_size=4))

    def observable(words, factor):
        if len(words) == 1:
            return qml.pauli.string_to_pauli_word(words[0])
        coefficients = [factor + 0.3 * i for i in range(len(words))]
        return qml.dot(coefficients, [qml.pauli.string_to_pauli_word(word) for word in words])

    def run(inputs, w, number):
        for build, angles in chosen:
            build(*[number(make(inputs, w, c)) for make, c in angles])
        return [qml.expval(observable(*pair)) for pair in sums]

    return run


def as_is(value):
    return value


def expected(run, x, w, cotangent):
    """Values and gradients by PennyLane, sample by sample, differentiated by backpropagation.

    Its matrices fail on some batches and where parameters are in part tensors, in part numbers: so this way.
    """
    rows = []
    for sample in x:
        tape = qml.tape.make_qscript(run)(
            sample, w, lambda value: torch.as_tensor(value, dtype=torch.float64)
        )
        results = simulate(tape, interface="torch")  # else a NumPy state meets torch angles in PhaseShift
        rows += [
            torch.as_tensor(r, dtype=torch.float64)
            for r in (results if isinstance(results, tuple) else [results])
        ]
    out = torch.stack(rows).reshape(len(x), -1)
    return out, gradients(out, x, w, cotangent)


def gradients(out, x, w, cotangent):
    if not out.requires_grad:
        return torch.zeros_like(x), torch.zeros_like(w)
    found = torch.autograd.grad((out * cotangent).sum(), (x, w), allow_unused=True)
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(found, (x, w), strict=True))


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(run=functions(), seed=st.integers(0, 2**16))
def test_random_circuits(run, seed):
    def function(inputs, w):
        return run(inputs, w, as_is)

    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, FEATURES, generator=generator).double().requires_grad_()
    w = torch.randn(WEIGHTS, generator=generator).double().requires_grad_()
    layer = QuantumLayer(function, {"w": WEIGHTS}, {"w": w.detach()}, features=FEATURES)
    assert Circuit.parse(str(layer.circuit)) == layer.circuit
    out = layer(x)
    assert out.dtype == torch.float64
    cotangent = torch.randn(out.shape, generator=generator).double()
    values, slopes = expected(run, x, w, cotangent)
    torch.testing.assert_close(out, values, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients(out, x, layer.w, cotangent), slopes, rtol=1e-10, atol=1e-10)

    x32 = x.detach().float().requires_grad_()
    out32 = layer.float()(x32)
    assert out32.dtype == torch.float32
    torch.testing.assert_close(out32.double(), values, rtol=1e-5, atol=1e-5)
    slopes32 = gradients(out32, x32, layer.w, cotangent.float())
    torch.testing.assert_close(tuple(g.double() for g in slopes32), slopes, rtol=1e-5, atol=1e-5)
