"""Every measurement against default.qubit: values, derivatives of both orders, shapes, dtypes, transforms."""

import numpy as np
import pennylane as qml
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import qlayers.measure_words
from qlayers import Circuit, QuantumLayer

RANDOM = np.random.default_rng(0)
A = RANDOM.normal(size=(4, 4)) + 1j * RANDOM.normal(size=(4, 4))
A = A + A.conj().T
B = RANDOM.normal(size=(8, 8)) + 1j * RANDOM.normal(size=(8, 8))
B = B + B.conj().T
EXPVAL, VAR, PROBS = qml.expval, qml.var, qml.probs

MEASUREMENTS = {
    "word": lambda: EXPVAL(qml.Z(0) @ qml.X(2)),
    "sum": lambda: EXPVAL(0.3 * qml.X(0) + qml.Z(1) @ qml.Y(0) - 0.7 * qml.Z(2) + 0.2 * qml.I(0)),
    "hamiltonian": lambda: EXPVAL(qml.Hamiltonian([0.3, 0.4], [qml.Z(0) @ qml.X(1), qml.Y(2)])),
    "hermitian": lambda: EXPVAL(qml.Hermitian(A, [2, 0])),
    "large hermitian": lambda: EXPVAL(qml.Hermitian(B, [2, 0, 1])),
    "hermitian times word": lambda: EXPVAL(qml.Hermitian(A, [2, 0]) @ qml.Z(1)),
    "hermitian plus word": lambda: EXPVAL(qml.Hermitian(A, [2, 0]) + 0.5 * qml.Z(1)),
    "projector": lambda: EXPVAL(qml.Projector([0, 1], [2, 0])),
    "projector on a state": lambda: EXPVAL(qml.Projector([0.6, 0.8j], [1])),
    "hadamard": lambda: EXPVAL(qml.Hadamard(1)),
    "var of a word": lambda: VAR(qml.Z(0)),
    "var of a sum": lambda: VAR(0.3 * qml.X(0) + qml.Z(1) @ qml.Y(0) - 0.7 * qml.Z(2) + 0.2 * qml.I(0)),
    "var of a hermitian": lambda: VAR(qml.Hermitian(A, [2, 0])),
    "var of a large hermitian": lambda: VAR(qml.Hermitian(B, [2, 0, 1])),
    "var of a projector": lambda: VAR(qml.Projector([0, 1], [2, 0])),
    "var of a mixture": lambda: VAR(qml.Hermitian(A, [2, 0]) + 0.5 * qml.Y(1)),
    "probs": lambda: PROBS(),
    "probs of one": lambda: PROBS(wires=[1]),
    "probs of two": lambda: PROBS(wires=[2, 0]),
    "probs of a word": lambda: PROBS(op=qml.X(1) @ qml.Y(0)),
    "probs of hadamard": lambda: PROBS(op=qml.Hadamard(1)),
    "state": lambda: qml.state(),
    "density of one": lambda: qml.density_matrix([2]),
    "density of two": lambda: qml.density_matrix([2, 0]),
    "density of all": lambda: qml.density_matrix([0, 1, 2]),
    "purity of one": lambda: qml.purity([0]),
    "purity of two": lambda: qml.purity([2, 1]),
    "entropy": lambda: qml.vn_entropy([0], log_base=2),
    "entropy of two": lambda: qml.vn_entropy([1, 2]),
    "mutual information": lambda: qml.mutual_info([0], [2], log_base=3),
    "several": lambda: (EXPVAL(qml.Z(0)), PROBS(wires=[1, 2]), VAR(qml.X(1))),
    "several, one complex": lambda: (EXPVAL(qml.Z(0)), qml.density_matrix([1])),
    "one in a list": lambda: [qml.density_matrix([1])],
}
TWICE = [
    name for name in MEASUREMENTS if "large" not in name and name not in ("density of all", "hamiltonian")
]


def function_of(measurement):
    def function(inputs, w):
        qml.Hadamard(0)
        qml.AngleEmbedding(inputs, wires=range(2), rotation="Y")
        qml.CNOT([0, 1])
        qml.RX(w[0], 2)
        qml.ISWAP([0, 2])
        qml.SX(1)
        qml.CRX(w[1], [2, 0])
        qml.S(0)
        qml.PhaseShift(w[2], 1)
        qml.Y(0)
        qml.CZ([1, 2])
        qml.RY(0.4, 0)
        return measurement()

    return function


@pytest.fixture(params=["words", "states"])
def path(request, monkeypatch):
    """Once as the cost rule decides, once by states."""
    qlayers.plan.plan_of.cache_clear()
    if request.param == "states":
        monkeypatch.setattr(qlayers.measure_words, "readings", lambda *args: None)
        monkeypatch.setattr(qlayers.plan, "readings", lambda *args: None)
    yield request.param
    qlayers.plan.plan_of.cache_clear()


def expected(function, x, w):
    found = qml.QNode(function, qml.device("default.qubit"))(x, w)
    if isinstance(found, tuple | list):
        parts = [torch.as_tensor(part).reshape(len(x), -1) for part in found]
        dtype = torch.complex128 if any(p.is_complex() for p in parts) else torch.float64
        return torch.cat([part.to(dtype) for part in parts], -1)
    return found


def layer_of(name) -> QuantumLayer:
    return QuantumLayer(function_of(MEASUREMENTS[name]), {"w": (3,)}, features=2).double()


@pytest.mark.parametrize("name", MEASUREMENTS)
@pytest.mark.filterwarnings("ignore:You should use:UserWarning")  # PennyLane's, of its own observables
def test_matches_default_qubit(name, path):
    layer = layer_of(name)
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    found, wanted = layer(x), expected(function_of(MEASUREMENTS[name]), x, layer.w)
    assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    factors = torch.randn(found.shape, dtype=found.dtype)
    gradients = [
        torch.autograd.grad(
            (out * factors).real.sum(), [x, layer.w], allow_unused=True, materialize_grads=True
        )
        for out in (found, wanted)
    ]
    assert_close(*gradients, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", TWICE)
def test_derivatives_of_both_orders(name, path):
    layer = layer_of(name)

    def run(x, w):
        return torch.func.functional_call(layer, {"w": w}, (x,))

    x = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    w = layer.w.detach().requires_grad_()
    assert gradcheck(run, (x, w), fast_mode=True)
    assert gradgradcheck(run, (x, w), fast_mode=True)


@pytest.mark.parametrize(
    "name", ["probs", "state", "density of one", "several, one complex", "purity of one"]
)
def test_shapes_and_dtypes(name, path):
    layer = layer_of(name).float()
    one = layer(torch.rand(1, 2))
    last, is_complex = one.shape[1:], one.is_complex()
    for shape in [(2,), (5, 2), (3, 4, 2), (0, 2)]:
        for dtype in (torch.float16, torch.float32, torch.float64):
            out = layer(torch.rand(shape).to(dtype))
            wanted = {16: torch.float16, 32: torch.float32, 64: torch.float64}[torch.finfo(dtype).bits]
            if is_complex:
                wanted = torch.complex128 if dtype == torch.float64 else torch.complex64
            assert out.dtype == wanted
            assert out.shape == (*shape[:-1], *last)


@pytest.mark.parametrize("name", ["probs", "state", "entropy", "var of a mixture"])
def test_transforms(name, path):
    layer = layer_of(name)
    x = torch.randn(3, 2, dtype=torch.float64)

    def loss(w, row):
        out = torch.func.functional_call(layer, {"w": w}, (row[None],))
        return (out * torch.arange(1, out.numel() + 1).reshape(out.shape)).real.sum()

    w = layer.w.detach()
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(w, x)
    assert_close(each, torch.stack([torch.func.grad(loss)(w, row) for row in x]))
    tangent = torch.randn_like(w)
    along = torch.func.jvp(lambda w: loss(w, x[0]), (w,), (tangent,))[1]
    assert_close(along, each[0] @ tangent)


@pytest.mark.parametrize("name", ["probs", "var of a mixture", "state"])
@pytest.mark.filterwarnings("ignore:Torchinductor does not support:UserWarning")
def test_compiles_and_exports(name, path):
    layer = layer_of(name)
    x = torch.randn(3, 2, dtype=torch.float64)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert_close(compiled(x), layer(x))
    wanted = torch.autograd.grad(layer(x).abs().sum(), layer.w)
    assert_close(torch.autograd.grad(compiled(x).abs().sum(), layer.w), wanted)
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    assert_close(exported.module()(torch.cat([x, x])), layer(torch.cat([x, x])))


def test_autocast_keeps_precision(path):
    layer = layer_of("several").float()
    x = torch.randn(3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert_close(found, layer(x))


def test_entropy_at_a_product_state():
    """Eigenvalues 0 and equal eigenvalues: finite derivatives of both orders."""
    layer = QuantumLayer(Circuit.parse("features 1\nRX(x0) 0\nCRX(x0) 0 1\nsingle entropy 0 1\n")).double()
    layer_of_bell = QuantumLayer(Circuit.parse("wires 0 1\nRY(x0) 0\nCNOT 0 1\nsingle entropy 0")).double()
    for of, at in ((layer, 0.0), (layer_of_bell, torch.pi / 2)):
        x = torch.full((1, 1), at, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(of(x).sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x)
        assert torch.isfinite(slope).all()
        assert torch.isfinite(curvature).all()
    # S(p) with p = cos^2(x/2) has the curvature S''(1/2) p'^2 = -4/4 at x = pi/2
    assert_close(curvature, torch.full((1, 1), -1.0, dtype=torch.float64))


def test_trainable_coefficients(path):
    def function(inputs, w):
        qml.RX(inputs[..., 0], 0)
        qml.CRY(inputs[..., 1], [0, 1])
        return qml.expval(w[0] * qml.Z(0) + w[1] * qml.X(1)), qml.var(w[2] * qml.Z(0) + 0.5 * qml.X(1))

    layer = QuantumLayer(function, {"w": (3,)}, features=2).double()
    x = torch.randn(3, 2, dtype=torch.float64)
    found, wanted = layer(x), expected(function, x, layer.w)
    assert_close(found, wanted)
    assert_close(*[torch.autograd.grad(out.sin().sum(), layer.w) for out in (found, wanted)])


@pytest.mark.parametrize("wires", [[0, 1], [1, 0], ["a", "b"], [5, 2]])
@pytest.mark.parametrize("device", [True, False])
def test_order_of_wires(wires, device):
    def function(inputs):
        qml.RX(inputs[..., 0], wires[1])
        qml.RY(0.3, wires[0])
        return qml.state()

    form = qml.QNode(function, qml.device("default.qubit", wires=[*wires, "idle"] if device else None))
    x = torch.randn(2, 1, dtype=torch.float64)
    assert_close(QuantumLayer(form, {}, features=1)(x), form(x))


TEXT = """
wires 0 1 "aux"
features 1
weights w(3)
StatePrep[0.6,0.8j] 0
RX(x0) 1
QubitUnitary[0,1,1,0] "aux"
DiagonalQubitUnitary[1,1j] "aux"
GlobalPhase(w[0])
Projector[0] 1
expval w[1]*Z(0) + 0.5*hermitian[1,0.5j,-0.5j,-1](0) + diagonal[0.0,1.0,2.0,3.0](1,"aux")
expval projector[0,1](0,1)
var X(0)@Y("aux")
probs
probs 0 1
probs XY 0 "aux"
probs unitary[0.0,1.0,1.0,0.0] 0
state
density 0 1
purity 0
entropy 0 base 2.0
mutual_info 0 with 1 "aux"
"""


def test_text():
    circuit = Circuit.parse(TEXT)
    assert Circuit.parse(str(circuit)) == circuit
    assert hash(Circuit.parse(str(circuit))) == hash(circuit)
    drawn = circuit.draw()
    assert "|ψ>" in drawn
    assert "entropy" in drawn
    layer = QuantumLayer(circuit).double()
    assert layer(torch.zeros(3, 1, dtype=torch.float64)).shape == (3, *circuit.shape)
    assert "StatePlan" in type(circuit.plan()).__name__
