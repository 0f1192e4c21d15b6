"""Our TorchLayer beside PennyLane's: the same small models, values, shapes, names, errors and helpers."""

import copy
import inspect
import io
import math
import pickle

import pennylane as qml
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrize import register_parametrization
from torch.testing import assert_close

from qlayers import Circuit, QuantumLayer, TorchLayer
from qlayers.circuit import shapes_of
from qlayers.initial import initial
from qlayers.inputs import _checked
from shared.errors import UserError

Upstream = qml.qnn.TorchLayer
DEVICE = qml.device("default.qubit", wires=2)
SHAPES = {"weights": (2, 2, 3), "angle": 1, "row": 2}
X = torch.linspace(-1.0, 2.0, 24).reshape(3, 4, 2)


def body(inputs, weights, angle, row):
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.StronglyEntanglingLayers(weights, wires=range(2))
    qml.CRX(angle, wires=[0, 1])
    for wire in range(2):
        qml.RY(row[wire], wires=wire)


RETURNED = {
    "one": lambda: qml.expval(qml.Z(0)),
    "list": lambda: [qml.expval(qml.Z(0)), qml.expval(qml.X(0) @ qml.Y(1))],
    "var": lambda: qml.var(qml.X(1)),
    "probs": lambda: qml.probs(wires=[1, 0]),
    "all probs": lambda: qml.probs(),
    "mixed": lambda: [qml.expval(qml.Z(0)), qml.probs(wires=[0, 1]), qml.var(qml.Z(1))],
    "purity": lambda: qml.purity(wires=[0]),
}


def node_of(returned: str = "list", **options) -> qml.QNode:
    def circuit(inputs, weights, angle, row):
        body(inputs, weights, angle, row)
        return RETURNED[returned]()

    return qml.QNode(circuit, DEVICE, **options)


def pair(returned: str = "list", shapes=SHAPES, init_method=None):
    """Upstream's layer and ours, made from one QNode after the same seed."""
    node, made = node_of(returned), []
    for kind in (Upstream, TorchLayer):
        torch.manual_seed(5)
        made.append(kind(node, shapes, init_method))
    return made


@pytest.fixture(scope="module")
def both():
    return pair()


# values, shapes and derivatives


@pytest.mark.parametrize("returned", RETURNED)
@pytest.mark.parametrize("x", [X[0, 0], X[0], X[:1, 0], X], ids=lambda x: str(tuple(x.shape)))
def test_values_and_shapes(returned, x):
    upstream, ours = pair(returned)
    expected = upstream(x)
    assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)
    assert ours(x).dtype == expected.dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_and_dtypes(dtype):
    found = []
    for layer in pair():
        layer, x = layer.to(dtype), X[0].to(dtype).requires_grad_()
        out = layer(x)
        out.square().sum().backward()
        found.append([out, x.grad, *(parameter.grad for parameter in layer.parameters())])
    for expected, ours in zip(*found, strict=True):
        assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_training_takes_the_same_course():
    courses = []
    for layer in pair():
        model, losses = nn.Sequential(layer, nn.Linear(2, 1)), []
        with torch.no_grad():
            model[1].weight.fill_(0.3), model[1].bias.zero_()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        for _ in range(4):
            loss = (model(X[0]) - 0.7).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        courses.append(losses)
    assert courses[1] == pytest.approx(courses[0], rel=1e-4)


def test_call_by_keyword(both):
    upstream, ours = both
    assert_close(ours(inputs=X[0]), upstream(inputs=X[0]), rtol=1e-4, atol=1e-5)


# weights


@pytest.mark.parametrize("size", [1, (), (1,), [2, 3], torch.Size([2]), 4], ids=str)
def test_weight_sizes_and_seeded_beginnings(size):
    @qml.qnode(DEVICE)
    def circuit(inputs, w):
        qml.RX(inputs[..., 0], wires=0)
        qml.RY(w.sum(), wires=0)
        return qml.expval(qml.Z(0))

    weights = []
    for kind in (Upstream, TorchLayer):
        torch.manual_seed(3)
        weights.append(kind(circuit, {"w": size}).w)
    assert torch.equal(*weights)
    assert (weights[1] >= 0).all()
    assert (weights[1] <= 2 * math.pi).all()


INITS = {
    "default": None,
    "one for all": nn.init.normal_,
    "mapping": {
        "weights": nn.init.uniform_,
        "angle": torch.tensor(0.5),
        "row": torch.tensor([1.0, 2.0], dtype=torch.float64),
    },
}


@pytest.mark.parametrize("init", INITS)
def test_init_method(init):
    upstream, ours = pair(init_method=INITS[init])
    assert_close(ours.state_dict(), upstream.state_dict(), rtol=0, atol=0)


def test_state_dicts_fit_each_other():
    upstream, ours = pair()
    assert list(ours.state_dict()) == list(upstream.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in upstream.named_parameters()]
    others = {name: torch.rand_like(value) for name, value in upstream.state_dict().items()}
    upstream.load_state_dict(others)
    buffer = io.BytesIO()
    torch.save(upstream.state_dict(), buffer)
    buffer.seek(0)
    ours.load_state_dict(torch.load(buffer))
    assert_close(ours(X[0]), upstream(X[0]), rtol=1e-4, atol=1e-5)
    fresh = pair()[0]
    buffer = io.BytesIO()
    torch.save(ours.state_dict(), buffer)
    buffer.seek(0)
    fresh.load_state_dict(torch.load(buffer))
    assert_close(fresh(X[0]), ours(X[0]), rtol=1e-4, atol=1e-5)


def test_qnode_weights(both):
    upstream, ours = both
    assert list(ours.qnode_weights) == list(upstream.qnode_weights)
    assert all(ours.qnode_weights[name] is getattr(ours, name) for name in SHAPES)
    ours = copy.deepcopy(ours)
    ours.qnode_weights["angle"] = torch.tensor(0.25)
    assert ours.angle == 0.25
    assert isinstance(ours.angle, nn.Parameter)
    with pytest.raises(KeyError):
        ours.qnode_weights["other"] = torch.tensor(0.25)


# wrong usage: the errors of both, of the same kinds


def wrong_function(*arguments: str):
    text = f"lambda {', '.join(arguments)}: qml.expval(qml.Z(0))"
    return qml.QNode(eval(text, {"qml": qml}), DEVICE)


WRONG = {
    "no data argument": (TypeError, lambda kind: kind(wrong_function("x", "w"), {"w": 1})),
    "data in weight_shapes": (ValueError, lambda kind: kind(node_of(), {**SHAPES, "inputs": 2})),
    "*args": (TypeError, lambda kind: kind(wrong_function("inputs", "*w"), {})),
    "a weight without shape": (ValueError, lambda kind: kind(node_of(), {"angle": 1})),
    "a shape without argument": (ValueError, lambda kind: kind(node_of(), {**SHAPES, "other": 1})),
    "interface": (ValueError, lambda kind: kind(node_of(interface="autograd"), SHAPES)),
    "tensor of another shape": (
        ValueError,
        lambda kind: kind(node_of(), SHAPES, {**dict.fromkeys(SHAPES, nn.init.ones_), "row": torch.ones(3)}),
    ),
    "weight without a beginning": (KeyError, lambda kind: kind(node_of(), SHAPES, {"row": nn.init.ones_})),
    "a number as beginning": (TypeError, lambda kind: kind(node_of(), SHAPES, dict.fromkeys(SHAPES, 0.5))),
    "no weight_shapes": (TypeError, lambda kind: kind(node_of())),
    "a size that is no int": (TypeError, lambda kind: kind(node_of(), {**SHAPES, "row": 2.5})),
    "too many features": (ValueError, lambda kind: kind(node_of(), SHAPES)(torch.rand(3, 5))),
    "an attribute that there is not": (AttributeError, lambda kind: kind(node_of(), SHAPES).nothing),
    "the wrong state": (RuntimeError, lambda kind: kind(node_of(), SHAPES).load_state_dict({})),
}


@pytest.mark.parametrize("mistake", WRONG)
@pytest.mark.parametrize("kind", [Upstream, TorchLayer], ids=["upstream", "ours"])
def test_errors(mistake, kind):
    error, make = WRONG[mistake]
    with pytest.raises(error):
        make(kind)


def test_messages_name_what_is_missing():
    with pytest.raises(KeyError, match=r"no entry for weight 'weights'; it has \['row'\]") as caught:
        TorchLayer(node_of(), SHAPES, {"row": nn.init.ones_})
    assert not str(caught.value).startswith('"')
    for beginning in (0.5, {"w": 0.5}):
        with pytest.raises(TypeError, match=r"received float for weight 'w'; for a number use lambda"):
            inspect.unwrap(initial)(beginning, "w", ())  # types are not checked, as outside the tests
    with pytest.raises(TypeError, match=r"'w' must be an int or a tuple of ints, not 2.5"):
        inspect.unwrap(shapes_of)({"w": 2.5})
    with pytest.raises(UserError, match="x: expected a tensor, received list; use"):
        inspect.unwrap(_checked)("x", [1.0], alone=True)


def test_signature_and_public_names(both):
    upstream, ours = (list(inspect.signature(kind).parameters.values()) for kind in (Upstream, TorchLayer))
    assert [(p.name, p.default, p.kind) for p in ours[: len(upstream)]] == [
        (p.name, p.default, p.kind) for p in upstream
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(upstream) :])
    public = {name for name in (*dir(both[0]), *dir(both[0].qnode)) if not name.startswith("_")}
    public.remove("transform_program")  # deprecated
    assert {name for name in public if not hasattr(both[1], name)} == set()


def test_arguments_by_keyword():
    node = node_of()
    layer = TorchLayer(qnode=node, weight_shapes=SHAPES, init_method=nn.init.ones_)
    assert layer.qnode is node

    def circuit(inputs, **weights):
        body(inputs, **weights)
        return qml.expval(qml.Z(0))

    found = []
    for kind in (Upstream, TorchLayer):
        torch.manual_seed(0)
        found.append(kind(qml.QNode(circuit, DEVICE), SHAPES)(X[0]))
    assert_close(*found, rtol=1e-4, atol=1e-5)


# the QNode behind the layer


@pytest.mark.parametrize("level", ["top", "user", "gradient", "device", 0])
def test_draw(both, level):
    upstream, ours = both
    assert qml.draw(ours, level=level)(X[0, 0]) == qml.draw(upstream, level=level)(X[0, 0])


def test_draw_with_matplotlib(both):
    import matplotlib.pyplot as plt

    texts = []
    for layer in both:
        figure, axes = qml.draw_mpl(layer, level="device", decimals=2)(X[0, 0])
        texts.append([text.get_text() for text in axes.texts])
        plt.close(figure)
    assert texts[0] == texts[1]
    assert any("Rot" in text for text in texts[1])


@pytest.mark.parametrize("level", ["top", "gradient", "device"])
def test_specs(both, level):
    upstream, ours = both
    assert qml.specs(ours, level=level)(X[0]) == qml.specs(upstream, level=level)(X[0])


def test_construct(both):
    tapes = []
    for layer in both:
        layer.construct((X[0],), {})
        tapes.append(layer.qnode._tape)
    assert qml.equal(tapes[0].operations[0], tapes[1].operations[0])
    assert [type(op) for op in tapes[0].operations] == [type(op) for op in tapes[1].operations]
    assert tapes[1].batch_size == 4


@pytest.mark.parametrize("name", ["device", "interface", "diff_method", "func", "shots", "gradient_kwargs"])
def test_attributes_are_those_of_the_qnode(both, name):
    upstream, ours = both
    assert getattr(ours, name) == getattr(upstream, name)
    assert hasattr(ours, name)


def test_is_an_instance_of_upstream(both):
    assert isinstance(both[1], Upstream)
    assert isinstance(both[1], QuantumLayer)


def test_attributes_set_on_the_layer():
    upstream, ours = pair()
    node, device = ours.qnode, qml.device("default.qubit", wires=2)
    for layer in (ours, upstream):
        assert node.device is not device  # ours leaves it alone, upstream changes all layers of the QNode
        layer.device, layer.note = device, "kept"
        assert layer.device is device
        assert layer.qnode.device is device
        assert layer.note == "kept"
    assert "note" in vars(ours)
    assert node.device is device

    def other(inputs, weights, angle, row):
        body(inputs + 1, weights, angle, row)
        return qml.expval(qml.Z(1))

    before = ours(X[0])
    for layer in (upstream, ours):
        layer.func = other
    assert_close(ours(X[0]), upstream(X[0]), rtol=1e-4, atol=1e-5)
    assert ours(X[0]).shape != before.shape
    ours.qnode = node_of("list")
    assert_close(ours(X[0]), before)


def test_weights_go_before_attributes_of_the_qnode():
    @qml.qnode(DEVICE)
    def circuit(inputs, device):
        qml.RX(inputs[..., 0] + device, wires=0)
        return qml.expval(qml.Z(0))

    layer = TorchLayer(circuit, {"device": ()})
    layer.device = nn.Parameter(torch.tensor(0.25))
    assert_close(layer(torch.zeros(1, 1)), torch.cos(torch.tensor([0.25])))


def test_drawing_a_subclass_and_a_parametrized_layer():
    class Named(TorchLayer):
        pass

    class Same(nn.Module):
        def forward(self, w):
            return w

    torch.manual_seed(5)
    named, plain = Named(node_of(), SHAPES), pair()[1]
    expected = qml.draw(plain, level="device")(X[0, 0])
    assert qml.draw(named, level="device")(X[0, 0]) == expected
    register_parametrization(plain, "row", Same())
    assert qml.draw(plain, level="device")(X[0, 0]) == expected


def test_drawing_a_plain_function():
    def circuit(w, inputs):
        qml.RX(inputs[0] * w, wires=0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(circuit, {"w": 1}, nn.init.ones_)
    assert qml.draw(layer)(torch.tensor([0.25])) == "0: ──RX(0.25)─┤  <Z>"
    held = QuantumLayer(layer.circuit)
    with pytest.raises(AttributeError, match=r"no QNode that could have it.*layer\.draw\(\)"):
        qml.draw(held)(torch.tensor([0.25]))
    with pytest.raises(AttributeError, match="no attribute 'construct', and no QNode"):
        held.construct((torch.tensor([0.25]),), {})
    both = several()
    assert "RY(0.50)" in qml.draw(both)(torch.zeros(2), torch.tensor([0.5]))


def test_transforms_of_the_qnode():
    node = qml.transforms.merge_rotations(qml.transforms.cancel_inverses(node_of()))
    upstream, ours = (kind(node, SHAPES, nn.init.ones_) for kind in (Upstream, TorchLayer))
    assert_close(ours(X[0]), upstream(X[0]), rtol=1e-4, atol=1e-5)
    assert qml.draw(ours, level="user")(X[0, 0]) == qml.draw(upstream, level="user")(X[0, 0])


def test_input_argument(both):
    @qml.qnode(DEVICE)
    def circuit(x, w):
        qml.RX(x[..., 0] * w, wires=0)
        return qml.expval(qml.Z(0))

    before = both[1](X[0])
    assert both[0].input_arg == both[1].input_arg == "inputs"
    try:
        found = []
        for kind in (Upstream, TorchLayer):
            kind.set_input_argument("x")
            layer = kind(circuit, {"w": 1}, nn.init.ones_)
            assert layer.input_arg == "x"
            found.append(layer(X[0]))
            assert_close(layer(inputs=X[0]), found[-1])
    finally:
        for kind in (Upstream, TorchLayer):
            kind.set_input_argument()
    assert_close(*found)
    assert layer.input_arg == "x"
    assert both[1].input_arg == "inputs"
    assert_close(both[1](X[0]), before)
    assert_close(TorchLayer(circuit, {"w": 1}, nn.init.ones_, input_arg="x")(X[0]), found[1])


# beyond upstream


def wave(x, t, w):
    qml.RX(w[0] * x[..., 0], wires=0)
    qml.RY(w[1] * x[..., 1] + t[..., 0], wires=1)
    qml.CNOT(wires=[0, 1])
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]


def of_sample(x, t, w):
    qml.RX(w[0] * x[0], wires=0)
    qml.RY(w[1] * x[1] + t[0], wires=1)
    qml.CNOT(wires=[0, 1])
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]


def of_values(x, t, w):
    qml.RX(w[0] * x[0], wires=0)
    qml.RY(w[1] * x[1] + t[0] if x[0] < 100 else w[0], wires=1)
    qml.CNOT(wires=[0, 1])
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]


def expected_wave(x, t, w):
    first = torch.cos(w[0] * x[..., 0])
    return torch.stack(torch.broadcast_tensors(first, first * torch.cos(w[1] * x[..., 1] + t[..., 0])), -1)


def several(function=wave, **options) -> QuantumLayer:
    return QuantumLayer(function, {"w": 2}, input_arg=("x", "t"), **options)


@pytest.mark.parametrize("function", [wave, of_sample, of_values])
@pytest.mark.parametrize(
    ("x", "t"), [((2,), (1,)), ((5, 2), (5, 1)), ((5, 2), (1,)), ((4, 1, 2), (3, 1)), ((0, 2), (1, 1))]
)
def test_several_inputs(function, x, t):
    layer, x, t = several(function), torch.rand(x), torch.rand(t)
    expected = expected_wave(x, t, layer.w)
    for found in (layer(x=x, t=t), layer({"t": t, "x": x}), layer(x, t), layer(x, t=t)):
        assert_close(found, expected)


def test_several_inputs_take_gradients_and_dtypes():
    layer, x, t = several(), torch.rand(4, 1, 2, requires_grad=True), torch.rand(3, 1, requires_grad=True)
    expected = torch.autograd.grad(expected_wave(x, t, layer.w).sum(), (x, t, layer.w))
    assert_close(torch.autograd.grad(layer(x=x, t=t).sum(), (x, t, layer.w)), expected)
    assert layer(x=x.double(), t=t).dtype == torch.float64
    assert layer.input_arg == ("x", "t")
    assert "wave(x, t): 2 wires" in repr(layer)


def test_several_inputs_in_any_number_of_features():
    def sums(a, b):
        for wire, value in enumerate((a, b)):
            qml.RX(value.sum(-1), wires=wire)
        return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]

    layer = QuantumLayer(sums, {}, input_arg=["a", "b"])
    for sizes in ((2, 3), (3, 2), (2, 3)):  # of one total
        a, b = (torch.rand(4, size) for size in sizes)
        assert_close(layer(a=a, b=b), torch.stack([a.sum(-1).cos(), b.sum(-1).cos()], -1))


def test_one_input_called_inputs_among_several():
    def circuit(x, inputs):
        qml.RX(x[..., 0] + 2 * inputs[..., 0], wires=0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(circuit, {}, input_arg=("x", "inputs"))
    x, y = torch.rand(3, 1), torch.rand(3, 1)
    expected = torch.cos(x + 2 * y)[:, 0]
    for found in (layer(x=x, inputs=y), layer(x, y), layer({"x": x, "inputs": y})):
        assert_close(found, expected)


def test_wrong_calls_of_several_inputs():
    layer, x, t = several(features={"x": 2, "t": 1}), torch.rand(3, 2), torch.rand(3, 1)
    for call, message in {
        lambda: layer(x=x): "missing: t; unknown: none",
        lambda: layer(x=x, t=t, y=t): "missing: none; unknown: y",
        lambda: layer(x): "received one tensor; call layer",
        lambda: layer(x, t, t): "received 3 arguments",
        lambda: layer({"x": x, "t": t}, t=t): "t is given twice",
        lambda: layer(x=x, t=torch.rand(2, 1)): r"leading dimensions broadcast.*x \(3, 2\), t \(2, 1\)",
        lambda: layer(x=x, t=torch.ones(3, 1, dtype=torch.int64)): r"t: expected a floating tensor.*int64",
        lambda: layer(x=x, t=torch.tensor(1.0)): r"shape \(\)",
        lambda: several(features=3): "expected a mapping",
        lambda: several(features={"x": 3}): "a number for each of the inputs x, t",
        lambda: QuantumLayer(wave, {"w": 2}, input_arg=("x", "x")): "different names",
        lambda: QuantumLayer(layer.circuit, input_arg=("x", "t")): "expected features=",
        lambda: QuantumLayer(lambda x, w: None, {"w": 2}, input_arg=("x", "t")): "argument named 't'",
    }.items():
        with pytest.raises(UserError, match=message):
            call()


def test_several_inputs_under_torchs_tools():
    layer, x, t = several(features={"x": 2, "t": 1}), torch.rand(3, 2), torch.rand(3, 1)
    with pytest.raises(Exception, match=r"pass features=\{'x': 2, 't': 1\} to QuantumLayer"):
        torch.compile(several(), fullgraph=True, backend="eager")(x=x, t=t)
    expected = layer(x=x, t=t)
    assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x=x, t=t), expected)
    assert_close(torch.func.vmap(lambda x, t: layer(x=x, t=t))(x, t), expected)
    batch = torch.export.Dim("batch", min=1)
    shapes = ({"x": {0: batch}, "t": {0: batch}},)
    program = torch.export.export(layer, ({"x": x, "t": t},), dynamic_shapes=shapes)
    assert_close(program.module()({"x": x[:2], "t": t[:2]}), expected[:2])
    assert_close(pickle.loads(pickle.dumps(layer))(x=x, t=t), expected)
    assert_close(copy.deepcopy(layer)({"x": x, "t": t}), expected)
    weights = {"w": torch.rand(2)}
    assert_close(functional_call(layer, weights, (), {"x": x, "t": t}), expected_wave(x, t, weights["w"]))


def test_a_circuit_with_several_inputs():
    circuit = Circuit.parse("RX(x0) 0\nRY(x2) 0\nsingle expval Z(0)")
    layer = QuantumLayer(circuit, input_arg=("a", "b"), features={"a": 2, "b": 1})
    a, b = torch.rand(4, 2), torch.rand(1)
    assert_close(layer(a=a, b=b), torch.cos(a[:, 0]) * torch.cos(b))
    with pytest.raises(UserError, match=r"circuits for \[\(2, 1\)\] features"):
        layer(a=b, b=a)  # in all as many, but others


@pytest.mark.parametrize("shape", [(0, 2), (2, 0, 2)])
def test_empty_batches(both, shape):
    with pytest.raises(RuntimeError):
        both[0](torch.rand(shape))
    assert both[1](torch.rand(shape)).shape == (*shape[:-1], 2)


@pytest.mark.parametrize("strict", [False, True])
def test_compile_and_export(both, strict):
    _, ours = both
    compiled = torch.compile(ours, fullgraph=True, backend="eager")
    assert_close(compiled(X[0]), ours(X[0]))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(ours, (X[0],), dynamic_shapes=({0: batch},), strict=strict)
    assert_close(program.module()(X[0, :2]), ours(X[0, :2]))


def test_layers_that_are_saved_whole(both):
    _, ours = both
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert isinstance(other, TorchLayer)
        assert_close(other(X[0]), ours(X[0]), rtol=0, atol=0)
    assert other.qnode is None  # its function is local, and cannot be pickled
    with pytest.raises(AttributeError, match="no QNode that could have it"):
        _ = other.device
    assert not hasattr(other, "func")


# saved with its circuit


def moved(state):
    """A state through a file, and back without running code from it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("kind", [QuantumLayer, TorchLayer])
@pytest.mark.parametrize("returned", RETURNED)
def test_layer_from_its_file(tmp_path, kind, returned):
    layer = TorchLayer(node_of(returned), SHAPES).double()
    layer.save(tmp_path / "layer.pt")
    found = kind.load(tmp_path / "layer.pt")
    assert type(found) is kind
    assert_close(found(X.double()), layer(X.double()), rtol=0, atol=0)
    assert found.extra_repr() == layer.extra_repr()
    assert found.draw() == layer.draw()
    assert found.state_dict().keys() == layer.state_dict().keys()
    assert all(parameter.requires_grad for parameter in found.parameters())
    with pytest.raises(UserError, match="without its Python function"):
        found(torch.rand(3, 1))
    found.reset_parameters()
    assert (found.weights != layer.weights).any()


def test_layer_from_its_state():
    layer = several()
    x, t = torch.rand(3, 2), torch.rand(3, 1)
    expected = layer(x=x, t=t)
    found = QuantumLayer.from_state_dict(moved(layer.state_dict()))
    assert_close(found(x=x, t=t), expected, rtol=0, atol=0)
    state = layer.state_dict()
    again = QuantumLayer.from_state_dict(state)
    with torch.no_grad():
        again.w.zero_()
    assert layer.w.abs().sum() > 0
    held = QuantumLayer(Circuit.parse("weights w(2)\nRX(w[0]*x0) 0\nsingle expval Z(0)"))
    found = QuantumLayer.from_state_dict(moved(held.state_dict()))
    assert_close(found(x), held(x))  # a circuit runs with more features than it uses


def test_layers_from_the_state_of_a_model(tmp_path):
    first, second = pair()[1], TorchLayer(node_of("probs"), SHAPES)
    model = nn.Sequential(nn.Linear(2, 2), first, nn.ModuleDict({"head": second}))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert_close(TorchLayer.load(tmp_path / "model.pt", "1")(X[0]), first(X[0]))
    assert_close(TorchLayer.load(tmp_path / "model.pt", prefix="2.head")(X[0]), second(X[0]))
    with pytest.raises(UserError, match=r"describes the layers \['1', '2.head'\]; name one"):
        TorchLayer.load(tmp_path / "model.pt")
    alone = nn.Sequential(nn.Linear(2, 2), first).state_dict()
    assert_close(TorchLayer.from_state_dict(alone)(X[0]), first(X[0]))


def test_states_that_describe_no_layer():
    layer = several()
    with pytest.raises(UserError, match="call it once"):
        layer.save("nowhere.pt")
    with pytest.raises(UserError, match=r"describes the layers \[\]"):
        QuantumLayer.from_state_dict(layer.state_dict())
    values = several(of_values)
    values(x=torch.rand(3, 2), t=torch.rand(1))
    with pytest.raises(UserError, match="cannot be saved with its circuit"):
        values.save("nowhere.pt")
    held = QuantumLayer(Circuit.parse("weights w(2)\nRX(w[0]*x0) 0\nexpval Z(0)"))
    with pytest.raises(UserError, match="not a dict made of that"):
        QuantumLayer.from_state_dict(dict(held.state_dict()))
    register_parametrization(held, "w", nn.Identity())
    with pytest.raises(UserError, match=r"\['w'\] with parametrizations; call"):
        held.save("nowhere.pt")
    with pytest.raises(UserError, match="lacks the weights w"):
        QuantumLayer.from_state_dict(held.state_dict())
    state = several(features={"x": 2, "t": 1}).state_dict()
    state._metadata[""]["qlayers"]["circuits"][0][1] = "import os"
    with pytest.raises(UserError, match="cannot be read: No gate 'import os'"):
        QuantumLayer.from_state_dict(state)
    del state._metadata[""]["qlayers"]["inputs"]
    with pytest.raises(UserError, match="cannot be read"):
        QuantumLayer.from_state_dict(state)
    state._metadata[""]["qlayers"]["version"] = 3
    with pytest.raises(UserError, match="expected version 1 to 2, received 3"):
        QuantumLayer.from_state_dict(state)


def test_drawing_in_a_notebook(both):
    text = both[1]._repr_html_()
    assert text.startswith("<pre")
    assert "&lt;Z&gt;" in text
    assert "0: ──RX(x0)" in text
    assert repr(several()) in several()._repr_html_()
    assert both[1].draw(width=40) == both[1].circuit.draw(width=40)
    assert repr(both[1]) == str(both[1])
    assert repr(both[1]).startswith("TorchLayer(circuit: 2 wires")
