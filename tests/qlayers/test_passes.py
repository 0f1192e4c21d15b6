"""Rules for circuits: in random models the same values and gradients; and where they do not hold, why."""

import copy
import math
import operator

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import shared
from qlayers import Circuit, QuantumLayer
from qlayers.ops import pauli_evolve
from qlayers.passes import chains

OURS = ["duplicates", "dead_code", "quantum_layer", "shared_gates", "angle_scaling", "consecutive_circuits"]
MEASURED = {
    "list": lambda: [qml.expval(qml.Z(wire)) for wire in range(2)],
    "bare": lambda: qml.expval(qml.X(0) @ qml.Z(1)),
    "probs": lambda: qml.probs(wires=[1]),
    "var": lambda: [qml.var(qml.Y(1)), qml.probs(wires=[0, 1])],
    "sum": lambda: qml.expval(0.5 * qml.Z(0) + 2.0 * qml.X(1)),
    "state": lambda: qml.state(),
}

BARE = ("bare", "sum")


def layer(measured="list", *, of=None, reverse=False, **options):
    """A small layer; `of` gives it the weights of another."""

    def circuit(inputs, w):
        qml.AngleEmbedding(inputs, wires=range(2))
        for row in w:
            qml.RY(row[0], wires=0)
            qml.CNOT([1, 0] if reverse else [0, 1])
            qml.RX(row[1] * inputs[..., 0], wires=1)
        return MEASURED[measured]()

    made = QuantumLayer(circuit, {"w": (2, 2)}, **options).double()
    if of is not None:
        made.w = of.w
    return made


class By(nn.Module):
    """Layers in a forward of one's own."""

    def __init__(self, way, **layers):
        super().__init__()
        self.way, self.linear = way, nn.Linear(3, 2, dtype=torch.float64)
        for name, each in layers.items():
            setattr(self, name, each)

    def forward(self, x):
        return self.way(self, self.linear(x))


def rewrites(better):
    return [f"{change.before} -> {change.after}" for change in better.report.changes]


def optimized(model, passes=OURS):
    x = torch.rand(4, 3, dtype=torch.float64)
    better = shared.optimize(model, x, passes=passes)
    assert list(better.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(better.parameters(), model.parameters(), strict=True))
    for shape in ((4, 3), (2, 3, 3), (0, 3)):
        other = torch.rand(shape, dtype=torch.float64, requires_grad=True)
        assert_close(better(other), model(other))
        assert_close(gradients(better, other), gradients(model, other))
    assert_close(copy.deepcopy(better)(x), model(x))
    assert not shared.optimize(better, x, passes=passes).report
    return better


def gradients(model, x):
    out = model(x)
    return torch.autograd.grad(
        out.abs().square().sum(), [x, *model.parameters()], allow_unused=True, materialize_grads=True
    )


SCALES = {
    "pi": (lambda m, x: m.q(x * torch.pi), "mul"),
    "reverse": (lambda m, x: m.q(1 - 2 * x), "mul + sub"),
    "chain": (lambda m, x: m.q((x.mul(math.pi) / 2).add(1).neg() - 3), "mul + div + add + neg + sub"),
    "after tanh": (lambda m, x: m.q(torch.mul(torch.tanh(x), 0.5)), "mul"),
}


@pytest.mark.parametrize("way", SCALES)
def test_scalings_before_a_circuit(way):
    forward, calls = SCALES[way]
    better = optimized(By(forward, q=layer()))
    assert rewrites(better) == [f"{calls} + QuantumLayer -> its circuit with other angles"]


LEFT = {
    "used elsewhere": lambda m, x: m.q(y := x * 2) + y,
    "a tensor": lambda m, x: m.q(x * m.linear.bias),
    "rounded": lambda m, x: m.q(torch.div(x, 2, rounding_mode="floor")),
    "other dtype": lambda m, x: m.q((x > 0) * 2.0),
}


@pytest.mark.parametrize("way", LEFT)
def test_scalings_that_stay(way):
    assert not optimized(By(LEFT[way], q=layer())).report


def test_one_scaling_before_two_circuits():
    better = optimized(By(lambda m, x: m.q(y := x * 2) + m.p(y), q=layer(), p=layer(reverse=True)))
    assert len(better.report.changes) == 2
    assert "mul" not in better.report.after.__str__().split()


def test_layers_that_run_elsewhere_stay():
    for options in ({"shots": 20}, {"diff_method": "parameter-shift"}):
        model = By(lambda m, x: m.q(x * 2), q=layer(**options))
        assert not shared.optimize(model, torch.rand(4, 3).double(), passes=OURS, training=False).report


def test_hooks_are_called():
    seen, model = [], By(lambda m, x: m.q(x * 2), q=layer())
    model.q.register_forward_pre_hook(lambda _, args: seen.append(args))
    assert not optimized(model).report
    assert seen


@pytest.mark.parametrize("other", ["bare", "probs", "var", "sum", "list"])
def test_one_circuit_for_several_measurements(other):
    def forward(m, x):
        second = m.p(x)
        return torch.cat([m.q(x), second[..., None] if other in BARE else second], -1)

    first = layer()
    better = optimized(By(forward, q=first, p=layer(other, of=first)))
    assert rewrites(better) == ["QuantumLayer + QuantumLayer -> one circuit with all measurements"]


def test_circuits_that_differ():
    def forward(m, x):
        return m.q(x) + m.p(x)

    first = layer()
    for second in (layer(), layer(of=first, reverse=True)):
        assert not optimized(By(forward, q=first, p=second)).report
    model = By(lambda m, x: m.q(x).sum() + m.p(x).abs().sum(), q=first, p=layer("state", of=first))
    assert "no real numbers" in str(optimized(model).report)


def test_circuits_that_are_written_to():
    first = layer()
    model = By(lambda m, x: m.q(x).mul_(2) + m.p(x), q=first, p=layer(of=first))
    assert "changed in place later" in str(optimized(model).report)


def test_a_measurement_ends_a_circuit():
    report = optimized(By(lambda m, x: m.q(m.p(x)), q=layer(), p=layer())).report
    assert not report
    assert "ends with a measurement" in str(report)


def test_frozen_weights_are_said_to_stay():
    frozen = layer()
    frozen.w.requires_grad_(False)
    better = shared.optimize(By(lambda m, x: m.q(x), q=frozen), torch.rand(4, 3).double())
    assert not better.report
    assert "its weights are frozen" not in str(better.report)  # the last gate has an angle of the inputs
    circuit = Circuit.parse("weights w(2)\nRX(x0) 0\nRY(w[0]) 0\nCNOT 0 1\nRX(w[1]) 1\nexpval Z(0)")
    frozen = QuantumLayer(circuit).double()
    model = By(lambda m, x: m.q(x), q=frozen)
    assert "frozen" not in str(shared.optimize(model, torch.rand(4, 3).double()).report)
    frozen.w.requires_grad_(False)
    report = shared.optimize(model, torch.rand(4, 3).double()).report
    assert not report
    assert "its weights are frozen, but 3 gates on 2 wires" in str(report)


class Evolving(nn.Module):
    def __init__(self, wires=3, *, own=True):
        super().__init__()
        self.wires, self.own = wires, own
        self.a, self.b = nn.Parameter(torch.rand(3).double()), nn.Parameter(torch.rand(2).double())
        self.register_buffer("first", torch.tensor([[1, 2, 0, 0], [3, 1, 1, 1], [2, 2, 0, 2]]))
        self.register_buffer("second", torch.tensor([[1, 0, 0, 1], [2, 1, 1, 0], [2, 3, 0, 0]]))

    def forward(self, x):
        start = x.new_zeros(0, 2, 2**self.wires)
        state = pauli_evolve(start, self.a, x if self.own else x[:1], self.first, self.wires)
        return pauli_evolve(state, self.b, x * 2, self.second, self.wires)


@pytest.mark.parametrize("own", [True, False])
def test_consecutive_circuits(monkeypatch, own):
    monkeypatch.setattr(chains, "WORTH", 1)
    model, x = Evolving(own=own), torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    better = shared.optimize(model, x, passes=OURS)
    assert rewrites(better) == ["pauli_evolve + pauli_evolve -> pauli_evolve"]
    for batch in (4, 1, 6):
        x = torch.rand(batch, 2, dtype=torch.float64, requires_grad=True)
        assert_close(better(x), model(x))
        assert_close(gradients(better, x), gradients(model, x))


def test_small_states_are_passed_over():
    assert "sooner than two tables" in str(shared.optimize(Evolving(), torch.rand(4, 2).double()).report)


@settings(max_examples=8)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(set(MEASURED) - {"state"})),
            st.booleans(),
            st.sampled_from(["own", "tied"]),
            st.sampled_from(["as it is", "pi", "half", "minus"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_heads_on_the_same_features(heads):
    scalings = {
        "as it is": lambda x: x,
        "pi": lambda x: x * torch.pi,
        "half": lambda x: operator.truediv(x, 2) + 1,
        "minus": lambda x: -x,
    }
    first = layer()
    layers = {
        f"head{i}": layer(measured, of=first if weights == "tied" else None, reverse=reverse)
        for i, (measured, reverse, weights, _) in enumerate(heads)
    }

    def forward(m, x):
        outs = [getattr(m, name)(scalings[head[3]](x)) for name, head in zip(layers, heads, strict=True)]
        pairs = zip(outs, heads, strict=True)
        return torch.cat([out[..., None] if head[0] in BARE else out for out, head in pairs], -1)

    better = optimized(By(forward, first=first, **layers))
    assert "cannot be traced" not in str(better.report)


def test_a_circuit_with_other_leaves():
    from qlayers.passes.scaling import scaled

    circuit = Circuit.parse("weights w(1)\nRX(w[0]*x0) 0\nRZ(sin(x1)) 0\nRY(2*x0+x1) 0\nexpval w[0]*Z(0)")
    x, w = torch.rand(3, 2).double(), torch.rand(1).double()
    plain, other = (QuantumLayer(each).double() for each in (circuit, scaled(circuit, scale=3.0, offset=1.0)))
    with torch.no_grad():
        plain.w.copy_(w)
        other.w.copy_(w)
    assert_close(other(x), plain(3 * x + 1))
