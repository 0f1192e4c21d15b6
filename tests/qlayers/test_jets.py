"""Jets: derivatives of the circuit op of every order, against plain PyTorch through the reference."""

import math

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck

import shared as floor
from qlayers import QuantumLayer
from qlayers.ops import pauli_expval, pauli_expval_jet, pauli_expval_jet_vjp, pauli_expval_vjp
from qlayers.ops.duals import cos_sin, times

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4}
BATCHES = (0, 1, 7, 8, 16, 17, 33)


@st.composite
def circuits(draw, most_wires=4, batches=BATCHES):
    """(rotations, words, wires, batch, angles on either side): any rows that the op's definition allows.

    Few columns and many rotations, so that an angle is used several times; a side may have no angle at all.
    """
    wires = draw(st.integers(1, most_wires))
    mask = st.integers(0, 2**wires - 1)
    own = draw(st.sampled_from([(2, 2), (0, 3), (3, 0)]))
    places = st.sampled_from([(source, column) for source in (0, 1) for column in range(own[source])])
    rows = draw(st.lists(st.tuples(mask, mask, places), max_size=14))
    rows = [(x, z, *place) for x, z, place in rows]
    words = draw(st.lists(st.tuples(mask, mask), max_size=3))
    tables = (torch.tensor(rows, dtype=torch.int64).reshape(-1, 4), torch.tensor(words).reshape(-1, 2).long())
    return (*tables, wires, draw(st.sampled_from(batches)), own)


def arguments(circuit, rows, dtype=torch.float64, *, still_weights=False):
    """Jets of angles; with `still_weights`, directions touch the angles of samples only."""
    rotations, words, wires, batch, own = circuit
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(rows, own[0], generator=generator, dtype=torch.float64).to(dtype)
    batched = torch.randn(rows, batch, own[1], generator=generator, dtype=torch.float64).to(dtype)
    if still_weights:
        shared[1:] = 0
    return shared, batched, rotations, words, wires


def incoming(args):
    rows, batch, words = len(args[1]), args[1].shape[1], len(args[3])
    return torch.cos(torch.arange(rows * batch * words, dtype=args[1].dtype)).reshape(rows, batch, words)


def directional(function, *directions):
    """The mixed derivative of a function of (shared, batched) along directions, by forward mode."""
    if not directions:
        return function
    inner = directional(function, *directions[1:])
    return lambda *at: torch.func.jvp(inner, at, directions[0])[1]


# the arithmetic


def test_jets_of_numbers_are_derivatives():
    def of_sum(x, y, function):
        return function(0.3 + x * 1.1 - y * 0.7 + 0.2 * x * y)

    zero = torch.zeros((), dtype=torch.float64)
    jet = torch.tensor([0.3, 1.1, -0.7, 0.2], dtype=torch.float64)
    for part, function in zip(cos_sin(jet), (torch.cos, torch.sin), strict=True):
        slopes = torch.func.grad(of_sum, (0, 1))(zero, zero, function)
        mixed = torch.func.grad(lambda y, f=function: torch.func.grad(of_sum)(zero, y, f))(zero)
        torch.testing.assert_close(part, torch.stack([function(jet[0]), *slopes, mixed]))
    cosine, sine = cos_sin(jet)
    one = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(times(cosine, cosine) + times(sine, sine), one)


# the reference


@given(circuits(most_wires=3, batches=(0, 1, 3)))
@settings(max_examples=15)
def test_reference_is_the_mixed_derivative(circuit):
    shared, batched, *tables = arguments(circuit, 4)
    shared[3], batched[3] = 0, 0  # plain directions

    def values(*angles):
        return pauli_expval.reference(*angles, *tables)

    at, first, second = [(shared[row], batched[row]) for row in range(3)]
    expected = [values(*at), directional(values, first)(*at), directional(values, second)(*at)]
    expected.append(directional(values, first, second)(*at))
    found = pauli_expval_jet.reference(shared, batched, *tables)
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 4, 8])
@given(circuit=circuits(most_wires=3, batches=(1, 3)))
@settings(max_examples=8)
def test_vjp_reference_is_the_gradient(rows, circuit):
    args = arguments(circuit, rows)
    angles = [a.clone().requires_grad_() for a in args[:2]]
    value = (pauli_expval_jet.reference(*angles, *args[2:]) * incoming(args)).sum()
    wanted = [torch.zeros_like(a) for a in angles]
    if value.requires_grad:
        wanted = grad(value, angles, allow_unused=True, materialize_grads=True)
    found = pauli_expval_jet_vjp.reference(*args, incoming(args))
    for gradient, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-11)


# the kernel


@pytest.mark.parametrize("still_weights", [False, True], ids=["all move", "weights still"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 4])
@given(circuit=circuits(most_wires=6))
@settings(max_examples=20)
def test_kernel_equals_reference(rows, dtype, still_weights, circuit):
    args = arguments(circuit, rows, dtype, still_weights=still_weights)
    assert pauli_expval_jet.explain(*args).chosen == "numba"
    outputs = (pauli_expval_jet(*args), *pauli_expval_jet_vjp(*args, incoming(args)))
    exact = [a.double() if a.is_floating_point() else a for a in args[:4]]
    expected = (
        pauli_expval_jet.reference(*exact, args[4]),
        *pauli_expval_jet_vjp.reference(*exact, args[4], incoming(args).double()),
    )
    for output, wanted in zip(outputs, expected, strict=True):
        assert output.dtype == dtype
        assert output.is_contiguous()
        scale = max(1.0, wanted.abs().max().item() if wanted.numel() else 0.0)
        torch.testing.assert_close(output.double(), wanted, rtol=0, atol=TOLERANCE[dtype] * scale)


def test_three_directions_run_in_the_kernel_and_more_in_the_reference():
    tables = torch.tensor([[1, 2, 0, 0], [2, 1, 1, 1], [3, 3, 0, 0]]), torch.tensor([[0, 1], [1, 3]])
    for rows, provider in ((8, "numba"), (16, "reference")):
        args = arguments((*tables, 2, 3, (1, 2)), rows)
        assert pauli_expval_jet.explain(*args).chosen == provider
        found = (pauli_expval_jet(*args), *pauli_expval_jet_vjp(*args, incoming(args)))
        wanted = (
            pauli_expval_jet.reference(*args),
            *pauli_expval_jet_vjp.reference(*args, incoming(args)),
        )
        for output, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)


def test_a_jet_of_order_zero_is_the_value():
    generator = torch.Generator().manual_seed(3)
    rotations = torch.cat(
        [torch.randint(8, (12, 2), generator=generator), torch.tensor([[0, 0], [1, 1]] * 6)], 1
    )
    args = arguments((rotations, torch.tensor([[0, 4], [2, 3]]), 3, 5, (1, 2)), 1)
    plain = (args[0][0], args[1][0], *args[2:])
    torch.testing.assert_close(pauli_expval_jet(*args)[0], pauli_expval(*plain))
    found = pauli_expval_jet_vjp(*args, incoming(args))
    for jet, gradient in zip(found, pauli_expval_vjp(*plain, incoming(args)[0]), strict=True):
        torch.testing.assert_close(jet[0], gradient)


def test_threads_change_nothing():
    rotations = torch.tensor([[5, 3, 0, 0], [2, 7, 1, 1], [0, 9, 0, 1], [8, 8, 1, 0]] * 20)
    args = arguments((rotations, torch.tensor([[0, 8], [3, 5]]), 8, 100, (2, 2)), 4, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((pauli_expval_jet(*args), *pauli_expval_jet_vjp(*args, incoming(args))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_no_place_is_left_unwritten(poisoned_memory):
    rotations = torch.tensor([[1, 2, 0, 0], [2, 1, 1, 0], [0, 3, 0, 1]])
    args = arguments(
        (rotations, torch.tensor([[0, 1], [1, 3]]), 2, 17, (3, 2)), 2
    )  # one angle of each: unused
    outputs = (pauli_expval_jet(*args), *pauli_expval_jet_vjp(*args, incoming(args)))
    expected = (pauli_expval_jet.reference(*args), *pauli_expval_jet_vjp.reference(*args, incoming(args)))
    for output, wanted in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shared_rows", "rows"), [(3, 3), (2, 4), (0, 0)], ids=["no power of two", "unequal", "none"]
)
def test_wrong_numbers_of_rows_are_refused(shared_rows, rows):
    tables = torch.tensor([[1, 0, 0, 0]]), torch.tensor([[0, 1]]), 1
    with pytest.raises(ValueError, match=rf"1, 2, 4, ... rows .* received {shared_rows} and {rows}"):
        pauli_expval_jet(torch.zeros(shared_rows, 1), torch.zeros(rows, 2, 1), *tables)


def test_columns_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"below 1 \(shared\) and 1 \(batched\), received up to 0 and 4"):
        pauli_expval_jet(
            torch.zeros(2, 1),
            torch.zeros(2, 3, 1),
            torch.tensor([[1, 0, 0, 0], [1, 0, 1, 4]]),
            torch.tensor([[0, 1]]),
            1,
        )


# forward mode

MODES = {
    "jvp": lambda f: lambda s, b: torch.func.jvp(f, (s, b), (torch.cos(s), torch.sin(b))),
    "jvp of shared": lambda f: lambda s, b: torch.func.jvp(lambda s: f(s, b), (s,), (torch.cos(s),)),
    "jvp of batched": lambda f: lambda s, b: torch.func.jvp(lambda b: f(s, b), (b,), (torch.sin(b),)),
    "jacfwd": lambda f: torch.func.jacfwd(f, (0, 1)),
    "jacfwd of jacfwd": lambda f: torch.func.jacfwd(torch.func.jacfwd(f, (0, 1)), 1),
    "jacfwd of jacrev": lambda f: torch.func.jacfwd(torch.func.jacrev(f, (0, 1)), (0, 1)),
    "jacrev of jacfwd": lambda f: torch.func.jacrev(torch.func.jacfwd(f, (0, 1)), 0),
    "jvp of jvp of jvp": lambda f: MODES["jvp"](MODES["jvp of shared"](MODES["jvp of batched"](f))),
    "jvp of grad": lambda f: MODES["jvp"](torch.func.grad(lambda *a: f(*a).sin().sum(), (0, 1))),
    "grad of jvp": lambda f: torch.func.grad(lambda *a: MODES["jvp"](f)(*a)[1].sin().sum(), (0, 1)),
    "vmap of jvp": lambda f: (
        lambda s, b: torch.func.vmap(MODES["jvp"](f), (0, None))(torch.stack([s, 2 * s]), b)
    ),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_forward_mode_runs_on_jets(mode, dtype, monkeypatch):
    rotations = torch.tensor([[1, 2, 0, 0], [2, 1, 1, 1], [3, 3, 0, 1], [1, 1, 1, 0], [2, 0, 0, 0]])
    shared, batched, *tables = arguments((rotations, torch.tensor([[0, 1], [1, 3]]), 2, 3, (2, 2)), 1, dtype)
    shared, batched = shared[0], batched[0]
    exact = [a.double() for a in (shared, batched)]
    expected = MODES[mode](lambda s, b: pauli_expval.reference(s, b, *tables))(*exact)
    for operation in (pauli_expval, pauli_expval_vjp, pauli_expval_jet, pauli_expval_jet_vjp):
        monkeypatch.setattr(operation, "reference", None)
    found = MODES[mode](lambda s, b: pauli_expval(s, b, *tables))(shared, batched)
    leaves = (torch.utils._pytree.tree_leaves(tree) for tree in (found, expected))
    for output, wanted in zip(*leaves, strict=True):
        assert output.dtype == dtype
        torch.testing.assert_close(output.double(), wanted, rtol=0, atol=100 * TOLERANCE[dtype])


@given(circuits(most_wires=3, batches=(0, 1, 3)))
@settings(max_examples=15)
def test_any_circuit_moves_as_its_reference_does(circuit):
    shared, batched, *tables = arguments(circuit, 2)
    at, along = (shared[0], batched[0]), (shared[1], batched[1])

    def of(operation):
        return torch.func.jvp(lambda *angles: operation(*angles, *tables), at, along)

    torch.testing.assert_close(of(pauli_expval), of(pauli_expval.reference), rtol=0, atol=1e-11)
    grad = incoming((shared, batched, *tables))[0]

    def product(operation):
        return torch.func.jvp(
            lambda *moving: operation(*moving[:2], *tables, moving[2]), (*at, grad), (*along, torch.sin(grad))
        )

    torch.testing.assert_close(
        product(pauli_expval_vjp), product(pauli_expval_vjp.reference), rtol=0, atol=1e-11
    )


# the layer


def reuploading(inputs, weights):
    for layer in weights:
        for wire in range(2):
            qml.RX(inputs[..., wire] * 1.5, wires=wire)
            qml.Rot(*layer[wire], wires=wire)
        qml.CNOT(wires=[0, 1])
    return [qml.expval(qml.Z(0)), qml.expval(qml.X(0) @ qml.Y(1))]


@pytest.fixture
def layer():
    return QuantumLayer(reuploading, {"weights": (2, 2, 3)}, features=2).double()


def outputs_by_reference(layer, inputs, weights):
    with floor.prefer("reference"):
        program = layer._program(2)
        shared, batched = angles_of(program, inputs, weights)
        tables = program._tables[inputs.device, inputs.dtype]
        values = pauli_expval.reference(shared, batched, tables.rotations, tables.words, tables.wires)
    return values if tables.matrix is None else values @ tables.matrix


def angles_of(program, inputs, weights):
    from qlayers.evaluate import angles

    return angles(inputs, [weights], program._tables[inputs.device, inputs.dtype].angles)


def test_layer_passes_gradcheck_to_third_order(layer):
    inputs = torch.rand(2, 2, dtype=torch.float64, requires_grad=True)

    def outputs(inputs, weights):
        return torch.func.functional_call(layer, {"weights": weights}, (inputs,))

    def slope(inputs, weights):
        return grad(outputs(inputs, weights).sin().sum(), inputs, create_graph=True)[0]

    weights = layer.weights.detach().requires_grad_()
    assert gradgradcheck(outputs, (inputs, weights), fast_mode=True)
    assert gradcheck(slope, (inputs, weights), fast_mode=True)
    assert gradgradcheck(slope, (inputs, weights), fast_mode=True)


def physics_loss(outputs, inputs):
    """(u_xx + u u_x)^2 of the first output, along the first feature: three derivatives, with the weights'."""
    u = outputs[:, 0]
    u_x = grad(u.sum(), inputs, create_graph=True)[0][:, 0]
    u_xx = grad(u_x.sum(), inputs, create_graph=True)[0][:, 0]
    return (u_xx + u * u_x).square().mean()


def test_physics_loss_has_the_gradient_of_the_reference(layer):
    inputs = torch.rand(9, 2, dtype=torch.float64, requires_grad=True)
    found = physics_loss(layer(inputs), inputs)
    expected = physics_loss(outputs_by_reference(layer, inputs, layer.weights), inputs)
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        grad(found, [inputs, layer.weights], retain_graph=True),
        grad(expected, [inputs, layer.weights]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    again = grad(found, [inputs, layer.weights])  # the graph is kept and gives the same again
    torch.testing.assert_close(again, grad(physics_loss(layer(inputs), inputs), [inputs, layer.weights]))


def test_third_derivative_is_pennylanes(layer):
    at = torch.rand(2, dtype=torch.float64)
    node = qml.QNode(reuploading, qml.device("default.qubit"), interface="torch", diff_method="backprop")
    weights = layer.weights.detach()

    def of_layer(x):
        return layer(torch.stack([x, at[1]]).unsqueeze(0))[0, 0]

    def of_pennylane(x):
        return node(torch.stack([x, at[1]]), weights)[0]

    found, expected = (third(function, at[0]) for function in (of_layer, of_pennylane))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def third(function, x):
    x = x.clone().requires_grad_()
    value = function(x)
    for _ in range(3):
        (value,) = grad(value, x, create_graph=True)
    return value.detach()


def test_second_derivative_of_a_classical_function_inside():
    """f(x) = cos(tanh(1.7 x + 0.2)): an adjoint method that forgets the tanh gives f''(0.3) = 1.269."""

    def circuit(inputs):
        qml.RX(torch.tanh(1.7 * inputs[..., 0] + 0.2), wires=0)
        return qml.expval(qml.Z(0))

    x = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    (slope,) = grad(QuantumLayer(circuit, {}, features=1)(x).sum(), x, create_graph=True)
    (curvature,) = grad(slope.sum(), x)
    t = math.tanh(1.7 * 0.3 + 0.2)
    first, second = 1.7 * (1 - t**2), -2 * 1.7**2 * t * (1 - t**2)
    assert curvature.item() == pytest.approx(-math.cos(t) * first**2 - math.sin(t) * second, abs=1e-12)
    assert curvature.item() == pytest.approx(0.338, abs=1e-3)


def test_hessian_vector_product(layer):
    inputs = torch.rand(5, 2, dtype=torch.float64)
    direction = torch.cos(torch.arange(12.0, dtype=torch.float64)).reshape(2, 2, 3)

    def loss(weights):
        return torch.func.functional_call(layer, {"weights": weights}, (inputs,)).square().mean()

    def loss_by_reference(weights):
        return outputs_by_reference(layer, inputs, weights).square().mean()

    at = layer.weights.detach()
    _, found = torch.autograd.functional.hvp(loss, at, direction)
    _, expected = torch.autograd.functional.hvp(loss_by_reference, at, direction)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    forward_over_reverse = torch.func.jvp(torch.func.grad(loss), (at,), (direction,))[1]
    torch.testing.assert_close(forward_over_reverse, expected, rtol=0, atol=1e-12)


def test_gradients_and_curvatures_per_sample(layer):
    inputs = torch.rand(4, 2, dtype=torch.float64)

    def loss(weights, sample):
        return torch.func.functional_call(layer, {"weights": weights}, (sample.unsqueeze(0),)).square().sum()

    weights = layer.weights.detach()
    slopes = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, inputs)
    curvatures = torch.func.vmap(torch.func.jacrev(torch.func.grad(loss, 1), 1), (None, 0))(weights, inputs)
    for sample, slope, curvature in zip(inputs, slopes, curvatures, strict=True):
        torch.testing.assert_close(slope, torch.func.grad(loss)(weights, sample))
        torch.testing.assert_close(
            curvature, torch.autograd.functional.hessian(lambda x: loss(weights, x), sample)
        )


def test_memory_does_not_grow_with_depth():
    """The graph of a second derivative keeps angles, no states: its tensors are few and small."""
    saved = []

    def keep(tensor):
        saved.append(tensor.numel())
        return tensor

    rotations = torch.tensor([[1, 0, 1, 0], [3, 5, 0, 0], [6, 2, 0, 1]] * 100)
    shared = torch.rand(2, dtype=torch.float64, requires_grad=True)
    batched = torch.rand(4, 1, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = pauli_expval(shared, batched, rotations, torch.tensor([[0, 1]]), 9)
        (slope,) = grad(value.sum(), batched, create_graph=True)
        grad(slope.sum(), (shared, batched), create_graph=True)
    assert max(saved) <= max(rotations.numel(), 2**9)
    assert np.sum(saved) < 20 * rotations.numel()
