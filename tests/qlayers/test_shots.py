"""Layers with finite shots: distributions, shapes, seeds, and gradients by shifts and by perturbation."""

import copy
import pickle

import numpy as np
import pennylane as qml
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.testing import assert_close

from qlayers import Circuit, QuantumLayer, TorchLayer
from qlayers.gates import CONTROLLED, TABLE, gate
from qlayers.sampling import Spsa, backend
from shared.errors import UserError
from shared.threads import finest_grain

Upstream = qml.qnn.TorchLayer
SIGMAS = 4.5  # a right estimate is further off by chance once in 150,000 times, for fixed seeds never again
HERMITIAN = np.array([[1.0, 2.0j], [-2.0j, 0.5]])


def body(inputs, w, c):
    """Angles that are used once and several times, times data, and gates of several rotations."""
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.StronglyEntanglingLayers(w, wires=range(3))
    qml.CRX(c[0] * inputs[..., 0], wires=[0, 1])
    qml.PSWAP(c[1], wires=[1, 2])
    qml.CRot(c[0], c[1], c[2] ** 2, wires=[0, 2])


def several(inputs, w, c):
    body(inputs, w, c)
    return [qml.expval(c[1] * qml.Z(0) + inputs[..., 1] * qml.X(2)), *measured()]


def measured() -> list:
    return [
        qml.expval(qml.Z(0)),
        qml.expval(0.5 * qml.X(0) @ qml.Y(1) - 2 * qml.Z(2)),
        qml.expval(qml.Hermitian(HERMITIAN, 1)),
        qml.expval(qml.Projector([0, 1], wires=[0, 2])),
        qml.var(qml.Z(0) @ qml.Z(1) + 0.5 * qml.Z(2)),
        qml.var(qml.X(0) + qml.Z(0)),
        qml.probs([2, 0]),
        qml.probs(op=qml.X(1)),
    ]


def layer(function=several, kind=QuantumLayer, **options):
    torch.manual_seed(7)
    return kind(function, {"w": (1, 3, 3), "c": 3}, **options).double()


def data(rows=4) -> torch.Tensor:
    return torch.linspace(-1.0, 2.0, 3 * rows, dtype=torch.float64).reshape(rows, 3)


def gradients(of: nn.Module, x: torch.Tensor, v: torch.Tensor) -> list[torch.Tensor]:
    """The gradients of the sum of outputs times v, by the inputs and all weights."""
    x = x.clone().requires_grad_()
    return list(torch.autograd.grad((of(x) * v).sum(), [x, *of.parameters()]))


# derivatives without shots


def test_parameter_shifts_are_exact():
    exact, shifted = layer(), layer(diff_method="parameter-shift")
    x = data()
    assert_close(shifted(x), exact(x), atol=1e-12, rtol=0)
    v = torch.randn(exact(x).shape, dtype=torch.float64)
    for ours, right in zip(gradients(shifted, x, v), gradients(exact, x, v), strict=True):
        assert_close(ours, right, atol=1e-10, rtol=0)


GATES = [
    (n, k)
    for n in (*TABLE, *CONTROLLED, "MultiRZ")
    for k in (1, 2, 3)
    if gate(n, k) and gate(n, k).parameters
]
OTHERS = [("PauliRot[XYZ]", 3), ("C(Adjoint(U3))", 2), ("C0(CRY)", 3), ("C(PSWAP)", 3)]


@pytest.mark.parametrize(("name", "wires"), [*GATES, *OTHERS])
def test_every_gate_can_be_shifted(name, wires):
    count = gate(name, wires).parameters
    angles = ", ".join(["x0 + w[0]", "x1*w[0]", "sin(w[1])*x0"][:count])
    on = " ".join(map(str, range(wires)))
    lines = [*(f"RY({0.4 + 0.3 * i}) {i}" for i in range(wires)), f"{name}({angles}) {on}"]
    lines += [f"RX({0.2 + 0.5 * i}) {i}" for i in range(wires)] + [f"expval Z({i})" for i in range(wires)]
    circuit = Circuit.parse("\n".join(["features 2", "weights w(2)", *lines, f"var Z({wires - 1})"]))
    torch.manual_seed(0)
    exact, shifted = QuantumLayer(circuit), QuantumLayer(circuit, diff_method="parameter-shift")
    shifted.load_state_dict(exact.state_dict())
    exact, shifted, x = exact.double(), shifted.double(), torch.rand(3, 2, dtype=torch.float64)
    v = torch.randn(exact(x).shape, dtype=torch.float64)
    for ours, right in zip(gradients(shifted, x, v), gradients(exact, x, v), strict=True):
        assert_close(ours, right, atol=1e-10, rtol=0)


def test_one_perturbed_number_gives_the_central_difference():
    for step in (0.3, 1e-4):
        one = QuantumLayer(Circuit.parse("RX(x0) 0\nexpval Z(0)"), diff_method=Spsa(3, step))
        x = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)
        one(x).sum().backward()
        assert x.grad.item() == pytest.approx(-np.sin(0.5) * np.sin(step) / step, rel=1e-10)


def test_perturbations_average_to_the_gradient():
    x, directions, step = data(2), 600, 0.02
    exact, perturbed = layer(), layer(diff_method=Spsa(directions, step))
    v = torch.randn(exact(x).shape, dtype=torch.float64)
    right = gradients(exact, x, v)
    total = sum(part.square().sum() for part in right)
    for ours, part in zip(gradients(perturbed, x, v), right, strict=True):
        # a direction gives g_i + the sum of the others with random signs, whose variance is below |g|^2; the
        # gradients by the weights are sums over 2 samples of which each may be larger than the sum
        bound = SIGMAS * float((4 * total / directions).sqrt()) + 20 * step**2
        assert_close(ours, part, atol=bound, rtol=0)


def test_perturbed_amplitudes():
    def prepared(inputs):
        qml.AmplitudeEmbedding(inputs, wires=range(2), normalize=True)
        return qml.expval(qml.Z(0) @ qml.X(1))

    x = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    directions = 500
    exact, perturbed = (QuantumLayer(prepared, {}, diff_method=m) for m in ("best", Spsa(directions, 1e-3)))
    assert_close(perturbed(x), exact(x))
    (right,), (ours,) = (torch.autograd.grad(one(x).sum(), x) for one in (exact, perturbed))
    bound = SIGMAS * (right.square().sum(1, keepdim=True) / directions).sqrt()  # (3, 1), see above
    assert ((ours - right).abs() < bound + 1e-4).all()
    assert bound.max() < right.abs().max()


# shots


def test_estimates_have_the_right_distribution():
    """Each output against the exact one, on a thousand samples that are alike."""
    one, count, shots = data(1), 1000, 50
    exact = layer()(one)[0]
    found = layer(shots=shots)(one.expand(count, 3))
    factor = torch.ones_like(exact)
    factor[5:7] = (shots - 1) / shots  # a variance is that of the shots
    spread = found.std(0) / count**0.5
    assert ((found.mean(0) - factor * exact).abs() <= SIGMAS * spread + 1e-12).all()

    def without_data_in_observables(inputs, w, c):  # which upstream fails on
        body(inputs, w, c)
        return measured()

    node = qml.QNode(without_data_in_observables, qml.device("default.qubit", wires=3, seed=1))
    weights = {name: weight.detach() for name, weight in layer().named_parameters()}
    peers = qml.set_shots(node, shots)(one.expand(count, 3), **weights)
    peers = torch.cat([part.reshape(count, -1) for part in peers], -1)
    found, spread = found[:, 1:], spread[1:]
    gap = (found.mean(0) - peers.mean(0)).abs()
    assert (gap <= SIGMAS * (spread**2 + peers.var(0) / count).sqrt() + 1e-12).all()
    assert_close(found.std(0), peers.std(0), rtol=0.15, atol=1e-6)


def test_words_of_one_basis_share_their_shots():
    bell = Circuit.parse(
        "H 0\nCNOT 0 1\nexpval Z(0)\nexpval Z(1)\nexpval Z(0)@Z(1)\nexpval X(0)@X(1)\nprobs 0"
    )
    found = QuantumLayer(bell, shots=11)(torch.zeros(20, 0))
    assert_close(found[:, 0], found[:, 1], rtol=0, atol=0)
    assert (found[:, 2:4] == 1).all()
    assert_close(found[:, 4] - found[:, 5], found[:, 0])
    assert len(found[:, 0].unique()) > 3


class Hybrid(nn.Module):
    """A trainable encoder before a layer that shots are taken of."""

    def __init__(self, function, **options):
        super().__init__()
        torch.manual_seed(7)
        self.encoder = nn.Linear(2, 3).double()
        self.layer = layer(function, **options)

    def forward(self, x):
        return self.layer(self.encoder(x))


@pytest.mark.parametrize("method", ["parameter-shift", "spsa"])
def test_gradients_through_an_encoder_are_right_on_average(method):
    x, repetitions = torch.tensor([[0.3, -0.8], [1.1, 0.4]], dtype=torch.float64), 100
    exact = Hybrid(several)
    options = {"diff_method": Spsa(2, 0.05)} if method == "spsa" else {}
    drawn = Hybrid(several, shots=100, **options)
    v = torch.randn(exact(x).shape, dtype=torch.float64)

    def flat(model):
        parts = torch.autograd.grad((model(x) * v).sum(), list(model.parameters()))
        return torch.cat([part.reshape(-1) for part in parts])

    torch.manual_seed(1)
    found = torch.stack([flat(drawn) for _ in range(repetitions)])
    score = (found.mean(0) - flat(exact)) / (found.std(0) / repetitions**0.5 + 1e-9)
    assert score.abs().max() < SIGMAS + (1.0 if method == "spsa" else 0.0)  # which has a bias of step^2
    assert score.square().mean() < 2.5
    assert (found.std(0) > 0).sum() > 20


def test_shots_of_shifted_circuits_are_independent():
    """The variance of a gradient by two shifts with p = 1/2 each is 2 (1/4) / shots, not more or less."""
    one = QuantumLayer(Circuit.parse("RX(x0) 0\nexpval Z(0)"), shots=40)
    x = torch.zeros(5000, 1, dtype=torch.float64, requires_grad=True)
    one(x).sum().backward()
    assert abs(x.grad.mean()) < SIGMAS * (1 / 80 / 5000) ** 0.5
    assert x.grad.var().item() == pytest.approx(1 / 80, rel=0.1)


def test_only_what_needs_a_gradient_is_shifted(monkeypatch):
    sizes, seen = [], backend.Prepared.seen

    def counted(self, turns, *rest):
        sizes.append(len(turns))
        return seen(self, turns, *rest)

    monkeypatch.setattr(backend.Prepared, "seen", counted)
    one = QuantumLayer(
        Circuit.parse("weights w()\nRX(x0) 0\nRX(x1) 1\nRY(w) 0\nexpval Z(0)\nexpval Z(1)"), shots=5
    )
    one(torch.rand(3, 2)).sum().backward()
    one(torch.rand(3, 2, requires_grad=True)).sum().backward()
    with torch.no_grad():
        one(torch.rand(3, 2))
    assert sizes == [3, 2 * 3 * 1, 3, 2 * 3 * 3, 3]


def test_large_batches_are_cut_and_it_does_not_show(monkeypatch):
    one, x = layer(shots=20), data(9)
    v = torch.randn(9, 13, dtype=torch.float64)

    def results():
        torch.manual_seed(2)
        return [one(x), *gradients(one, x, v)]

    whole = results()
    for most in (1, 1000):
        monkeypatch.setattr(backend, "MOST_NUMBERS", most)
        backend._prepared.cache_clear()
        with finest_grain():
            assert_close(results(), whole, rtol=1e-12, atol=1e-12)
    backend._prepared.cache_clear()


def test_seeds():
    one, x = layer(shots=30), data()
    torch.manual_seed(5)
    first, second = one(x), one(x)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(one(x), first)
    state = torch.get_rng_state()
    own = layer(shots=30, generator=torch.Generator().manual_seed(5))
    torch.set_rng_state(state)
    assert torch.equal(own(x), first)
    assert torch.equal(own(x), second)
    assert torch.equal(torch.get_rng_state(), state)


def test_backward_twice_draws_the_same_shots():
    one, x = layer(shots=30), data().requires_grad_()
    total = one(x).square().sum()
    first = torch.autograd.grad(total, (x, one.w), retain_graph=True)
    torch.rand(3)
    assert_close(torch.autograd.grad(total, (x, one.w)), first, rtol=0, atol=0)


# shapes and dtypes

RETURNED = {
    "expval": lambda: qml.expval(qml.Z(0)),
    "var": lambda: qml.var(qml.Z(0) @ qml.X(1)),
    "probs": lambda: qml.probs([0, 1]),
    "all probs": lambda: qml.probs(),
    "sample": lambda: qml.sample(),
    "sample of wires": lambda: qml.sample(wires=[2, 0]),
    "sample of one wire": lambda: qml.sample(wires=1),
    "sample of an observable": lambda: qml.sample(qml.X(0) @ qml.Z(1)),
    "list of one": lambda: [qml.expval(qml.Z(0))],
    "list": lambda: [qml.expval(qml.Z(0)), qml.probs([0]), qml.var(qml.X(1)), qml.sample(wires=[0, 1])],
}


@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3), (1, 1, 2)])
@pytest.mark.parametrize("name", RETURNED)
@pytest.mark.parametrize("shots", [1, 7])
def test_shapes_are_those_of_upstream(name, leading, shots):
    def circuit(inputs, w):
        qml.AngleEmbedding(inputs, wires=range(3))
        qml.BasicEntanglerLayers(w, wires=range(3))
        return RETURNED[name]()

    node = qml.set_shots(qml.QNode(circuit, qml.device("default.qubit", wires=3)), shots)
    ours = TorchLayer(node, {"w": (1, 3)})
    found = ours(torch.rand(*leading, 3))
    assert found.dtype == torch.float32
    count = {"sample": (shots, 3), "sample of wires": (shots, 2), "sample of one wire": (shots, 1)}
    sizes = {
        "expval": (),
        "var": (),
        "probs": (4,),
        "all probs": (8,),
        "sample of an observable": (shots,),
        "list of one": (1,),
        "list": (4 + 2 * shots,),
        **count,
    }
    assert found.shape == (*leading, *sizes[name])
    if leading == (4,) and (shots > 1 or "sample" not in name):  # which upstream squeezes
        upstream = Upstream(node, {"w": (1, 3)})(torch.rand(4, 3))
        if not (name == "list" or name == "list of one"):
            assert found.reshape(-1).shape == upstream.reshape(-1).shape
    if name.startswith("sample"):
        assert set(found.unique().tolist()) <= ({-1.0, 1.0} if "observable" in name else {0.0, 1.0})


@pytest.mark.parametrize("rows", [(0,), (2, 0)])
def test_empty_batches(rows):
    one = layer(shots=5)
    x = torch.zeros(*rows, 3, dtype=torch.float64, requires_grad=True)
    out = one(x)
    assert out.shape == (*rows, 13)
    out.sum().backward()
    assert x.grad.shape == x.shape
    assert one.w.grad.abs().sum() == 0
    assert one.sample(x).shape == (*rows, 5, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtypes(dtype):
    one = layer(shots=2000).to(dtype)
    x = data().to(dtype).requires_grad_()
    out = one(x)
    assert out.dtype == dtype
    assert_close(out.double(), layer()(data()), atol=0.3, rtol=0)
    out.sum().backward()
    assert x.grad.dtype == one.w.grad.dtype == dtype


def test_samples_have_the_statistics_of_the_state():
    def circuit(inputs, w, c):
        body(inputs, w, c)
        return [qml.sample(qml.X(0) @ qml.Z(1)), qml.sample(wires=[2]), qml.expval(qml.X(0) @ qml.Z(1))]

    x, shots = data(3), 4000
    found = layer(circuit, shots=shots)(x)
    values, bits, mean = found[:, :shots], found[:, shots:-1], found[:, -1]
    assert_close(values.mean(-1), mean)
    exact = layer(several)(x)
    ones = exact[:, 9:11].sum(-1)  # of probs([2, 0]) where wire 2 is 1
    assert_close(bits.mean(-1), ones, atol=SIGMAS * 0.5 / shots**0.5, rtol=0)


def test_samples_and_counts_of_any_layer():
    bell = Circuit.parse('wires 0 "a"\nRX(x0) 0\nCNOT 0 "a"\nexpval Z(0)')
    one = QuantumLayer(bell)
    with pytest.raises(UserError, match="pass shots="):
        one.sample(torch.zeros(1))
    bits = one.sample(torch.rand(2, 3, 1), shots=9)
    assert bits.shape == (2, 3, 9, 2)
    assert bits.dtype == torch.int64
    assert (bits[..., 0] == bits[..., 1]).all()
    one.shots = 6
    assert one.counts(torch.tensor([[[0.0], [torch.pi]]])) == [[{"00": 6}, {"11": 6}]]
    assert one.counts(torch.zeros(1), shots=2) == {"00": 2}
    assert one.counts(torch.zeros(0, 1)) == []


COUNTED = [
    (lambda: qml.counts(), {"10": 8}),
    (lambda: qml.counts(wires=1), {"0": 8}),
    (lambda: qml.counts(wires=[1, 0], all_outcomes=True), {"00": 0, "01": 8, "10": 0, "11": 0}),
    (lambda: qml.counts(qml.Z(0) @ qml.Z(1)), {-1.0: 8}),
    (lambda: qml.counts(2 * qml.Z(0), all_outcomes=True), {-2.0: 8, 2.0: 0}),
    (lambda: qml.counts(qml.Hermitian(np.diag([1.0, 3.0]), 0)), {3.0: 8}),
]


@pytest.mark.parametrize("kind", [QuantumLayer, TorchLayer])
@pytest.mark.parametrize(("returned", "expected"), COUNTED)
def test_counts(returned, expected, kind):
    def circuit(inputs):
        qml.RX(torch.pi + 0 * inputs[..., 0], wires=0)
        qml.Identity(1)
        return returned()

    one = kind(circuit, {}, shots=8)
    assert one(torch.zeros(2, 1)) == [expected, expected]
    assert one(torch.zeros(2, 1, 1)) == [[expected], [expected]]
    assert one(torch.zeros(1)) == expected


def test_mid_circuit_measurements():
    def circuit(inputs):
        qml.RX(inputs[..., 0], wires=0)
        first = qml.measure(0)
        qml.cond(first, qml.X)(1)
        return [qml.expval(qml.Z(1)), qml.sample(first), qml.probs(op=first)]

    found = QuantumLayer(circuit, {}, shots=10)(torch.tensor([[0.0], [torch.pi]]))
    assert found[0].tolist() == [1.0, *[0.0] * 10, 1.0, 0.0]
    assert found[1].tolist() == [-1.0, *[1.0] * 10, 0.0, 1.0]


# where shots come from, and what is kept


@pytest.mark.parametrize("method", ["parameter-shift", "spsa", "best"])
def test_shots_of_a_qnode(method):
    options = {"gradient_kwargs": {"num_directions": 3, "h": 0.2}} if method == "spsa" else {}
    node = qml.QNode(several, qml.device("default.qubit", wires=3), diff_method=method, **options)
    node = qml.set_shots(node, 25)
    one = TorchLayer(node, {"w": (1, 3, 3), "c": 3})
    assert one.shots == node.shots == qml.measurements.Shots(25)
    assert "25 shots, " + ("spsa" if method == "spsa" else "parameter-shift") in repr(one)
    if method == "spsa":
        assert one._settings.diff_method == Spsa(3, 0.2)
    assert QuantumLayer(node, {"w": (1, 3, 3), "c": 3}, shots=4).shots == 4
    one.shots = None
    assert "shots" not in repr(one)
    assert_close(one(data()), one(data()), rtol=0, atol=0)
    one.shots = qml.measurements.Shots(3)
    one.qnode = qml.set_shots(node, 50)
    assert one.shots.total_shots == 3


def test_settings_are_kept(tmp_path):
    generator = torch.Generator().manual_seed(1)
    one = QuantumLayer(
        Circuit.parse("RX(x0) 0\nsample"), shots=12, diff_method=Spsa(3, 0.2), generator=generator
    )
    one.save(tmp_path / "layer.pt")
    kept = [QuantumLayer.load(tmp_path / "layer.pt"), pickle.loads(pickle.dumps(one)), copy.deepcopy(one)]
    for other in kept:
        assert other.shots == 12
        assert other._settings.diff_method == Spsa(3, 0.2)
        assert other._settings.generator is None
        assert repr(other) == repr(one)
        assert other(torch.zeros(2, 1)).shape == (2, 12)
    plain = QuantumLayer(Circuit.parse("RX(x0) 0\nexpval Z(0)"), diff_method="parameter-shift")
    plain.save(tmp_path / "plain.pt")
    assert QuantumLayer.load(tmp_path / "plain.pt")._settings.diff_method == "parameter-shift"


@pytest.mark.parametrize(
    "line", ["sample", "sample 0 1", "counts X(0)@Z(1)", "all_counts 0.5*hermitian[1,0,0,2](1)"]
)
def test_measurements_of_single_shots_as_text(line):
    circuit = Circuit.parse(f"wires 0 1\nRX(x0) 0\n{line}")
    assert Circuit.parse(str(circuit)) == circuit
    assert str(circuit).splitlines()[-1].startswith(line.split()[0])
    assert line.split()[0] in circuit.draw()


def test_functions_that_depend_on_values():
    def circuit(inputs, w):
        if inputs.sum() > 0:
            qml.RX(w, wires=0)
        qml.RY(inputs[..., 0], wires=0)
        return [qml.expval(qml.Z(0)), qml.sample(wires=0)]

    one = QuantumLayer(circuit, {"w": ()}, shots=2000)
    x = torch.full((3, 1), 0.4, requires_grad=True)
    out = one(x)
    assert_close(out[:, 0], (torch.cos(one.w) * torch.cos(x[:, 0])), atol=SIGMAS / 2000**0.5, rtol=0)
    out[:, 0].sum().backward()
    expected = -3 * torch.sin(one.w) * torch.cos(torch.tensor(0.4))
    assert_close(one.w.grad, expected, atol=3 * SIGMAS / 2000**0.5, rtol=0)
    one.shots = None
    with pytest.raises(UserError, match=r"qml\.sample needs finite shots"):
        one(x)


# transforms


def test_replaced_parameters_and_transforms():
    one, x = layer(diff_method="parameter-shift"), data()
    exact = layer()
    weights = {name: weight.detach() + 0.1 for name, weight in one.named_parameters()}

    def loss(model, weights, x):
        return functional_call(model, weights, (x,)).square().sum()

    assert_close(grad(lambda w: loss(one, w, x))(weights), grad(lambda w: loss(exact, w, x))(weights))
    per_sample = vmap(grad(lambda w, x: loss(one, w, x)), (None, 0))(weights, x)
    assert_close(per_sample, vmap(grad(lambda w, x: loss(exact, w, x)), (None, 0))(weights, x))
    assert_close(vmap(one)(x), exact(x))
    drawn = vmap(layer(shots=10_000))(x)
    assert_close(drawn, exact(x), atol=0.2, rtol=0)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # PyTorch's own, where a graph is cut
def test_compiled():
    one, x = layer(shots=5000), data()
    compiled = torch.compile(one, backend="eager")
    assert_close(compiled(x), layer()(x), atol=0.3, rtol=0)


# errors


def refused(lines: str, message: str, **options):
    circuit, given = Circuit.parse(lines), {"shots": 10, **options}
    with pytest.raises(UserError, match=message):
        QuantumLayer(circuit, **given)(torch.rand(2, 2))


def test_what_has_no_meaning_with_shots():
    refused("features 2\nRX(x0) 0\nstate", "state has no estimate from shots")
    refused("features 2\nRX(x0) 0\npurity 0", "purity has no estimate")
    refused("features 2\nweights w()\nRX(x0) 0\nvar w*Z(0)", "expected constant coefficients")
    refused("features 2\nRX(x0) 0\ncounts\nprobs 0", "cannot stand beside")
    refused("features 2\nRX(x0) 0\nsample", r"qml\.sample needs finite shots", shots=None)
    refused("features 2\nRX(x0) 0\ncounts", r"qml\.counts needs", shots=None)
    refused("features 2\nRX(x0) 0\nsample", "needs finite shots", shots=None, diff_method="spsa")


def test_second_derivatives_are_refused():
    for options in ({"shots": 10}, {"diff_method": "parameter-shift"}, {"diff_method": "spsa"}):
        one, x = (
            QuantumLayer(Circuit.parse("RX(x0) 0\nexpval Z(0)"), **options),
            torch.rand(2, 1, requires_grad=True),
        )
        (first,) = torch.autograd.grad(one(x).square().sum(), x, create_graph=True)
        with pytest.raises(UserError, match="Second derivatives: expected outputs of the exact engine"):
            torch.autograd.grad(first.sum(), x)
        with pytest.raises(UserError, match="Second derivatives"):
            grad(lambda x, one=one: grad(lambda x: one(x).sum())(x).sum())(x.detach())


def test_what_cannot_be_shifted():
    def prepared(inputs, w):
        qml.AmplitudeEmbedding(inputs, wires=[0], normalize=True)
        qml.RX(w, wires=0)
        return qml.expval(qml.Z(0))

    one = QuantumLayer(prepared, {"w": ()}, shots=10)
    x = torch.rand(2, 2)
    one(x).sum().backward()  # weights can
    assert one.w.grad is not None
    with pytest.raises(
        UserError, match=r'received StatePrep that depends on trained inputs.*use diff_method="spsa"'
    ):
        one(x.requires_grad_())
    with torch.no_grad():
        one(x)

    def postselected(inputs):
        qml.RX(inputs[..., 0], wires=0)
        qml.measure(0, postselect=1)
        qml.RY(inputs[..., 1], wires=1)
        return qml.expval(qml.Z(1))

    with pytest.raises(UserError, match="a circuit with a postselected measurement"):
        QuantumLayer(postselected, {}, shots=10)(x)


def test_inputs_that_are_not_finite():
    with pytest.raises(UserError, match="row 1: expected finite probabilities"):
        layer(shots=10)(torch.tensor([[0.0, 0.0, 0.0], [torch.nan, 0.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 0}, "shots: expected a positive int or None, received 0"),
        ({"shots": True}, "received True"),
        ({"diff_method": "backprop"}, "expected one of best, adjoint, parameter-shift, spsa"),
        ({"diff_method": "adjoint", "shots": 3}, "needs the exact state"),
        ({"trajectories": -1}, "trajectories: expected a positive int"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        layer(**options)


def test_wrong_options_of_spsa_and_shot_vectors():
    for wrong in ({"directions": 0}, {"step": 0.0}, {"step": float("nan")}):
        with pytest.raises(UserError, match="expected a whole number of directions"):
            Spsa(**wrong)
    node = qml.set_shots(qml.QNode(several, qml.device("default.qubit", wires=3)), (5, 7))
    with pytest.raises(UserError, match="expected one number"):
        TorchLayer(node, {"w": (1, 3, 3), "c": 3})


def test_directions_of_spsa_are_new_at_each_forward_and_follow_the_seed():
    circuit = Circuit.parse("weights w(6)\n" + "\n".join(f"RX(w[{i}]) {i}\nexpval Z({i})" for i in range(6)))
    layer = QuantumLayer(circuit, init_method={"w": torch.full((6,), 0.4)}, diff_method="spsa").double()

    def slope() -> torch.Tensor:
        return torch.autograd.grad(layer(torch.zeros(1, 0, dtype=torch.float64)).sum(), layer.w)[0]

    torch.manual_seed(5)
    found = torch.stack([slope() for _ in range(400)])
    assert len(found.unique(dim=0)) > 15
    score = (found.mean(0) + np.sin(0.4)) / (found.std(0) / 400**0.5)
    assert score.abs().max() < SIGMAS
    torch.manual_seed(5)
    assert torch.equal(slope(), found[0])
