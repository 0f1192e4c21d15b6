"""Expressions: tracing torch code and evaluating the trace gives back what the code computes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from qlayers.evaluate import Scheduler, angles
from qlayers.expressions import Nodes, compact, reachable
from qlayers.symbolic import Symbolic, ValueNeeded, symbolic

SAMPLES, FEATURES = 3, 2
CPU = torch.device("cpu")


def made(ids: list[int], nodes: Nodes, shape: tuple[int, ...]) -> Symbolic:
    return symbolic(torch.tensor(ids).reshape(shape), nodes)


def written(x, w):
    out = x.clone()
    out[:, 0] = w[0, 0]
    out[:, 1] *= 2
    out += 1
    column = out[:, 0]
    column.mul_(3)  # through the view
    return out


def filled(x, w):
    out = torch.zeros_like(x)
    out[:, 0] = torch.sin(x[:, 1])
    return out + (out[:, 1:] == 0)


CODE = {
    "select": lambda x, w: x[:, 0] * w[0, 1] + 1,
    "matmul": lambda x, w: x @ w,
    "matrix-vector": lambda x, w: x @ w[0],
    "dot": lambda x, w: w[0].dot(w[1]),
    "bmm": lambda x, w: x[:, None] @ w,
    "linear": lambda x, w: F.linear(x, w, w[0]),
    "einsum": lambda x, w: torch.einsum("bi,ij->bj", x, w),
    "outer": lambda x, w: torch.outer(w[0], w[1]),
    "softmax": lambda x, w: torch.softmax(x, -1),
    "log_softmax": lambda x, w: torch.log_softmax(w, 0),
    "layer_norm": lambda x, w: F.layer_norm(x, (2,)),
    "written in place": written,
    "filled": filled,
    "scaled by pi": lambda x, w: -x * math.pi,
    "numpy number": lambda x, w: np.float64(2) * x,
    "cat and stack": lambda x, w: torch.stack(list(torch.cat([x, torch.ones(3, 1)], 1).unbind(1))),
    "where": lambda x, w: torch.where(x > 0, x, -w[0]),
    "where of constants": lambda x, w: torch.where(torch.tensor([True, False]), x, w[0]),
    "logic": lambda x, w: torch.where((x > 0) & (x < 0.5) | ~(x >= -1), x * x, 3 * x),
    "clamp": lambda x, w: x.clamp(-0.5, 0.5) + x.clamp(min=0.1) + x.clamp_max(0.3),
    "powers": lambda x, w: 2**x + x**2 + x**3 + (x + 3) ** 0.5 + (x + 3) ** -1 + (x + 3) ** 1.5 + x.square(),
    "division": lambda x, w: 1 / (x + 3) + x / 3 + torch.div(x, 0.3, rounding_mode="floor"),
    "index": lambda x, w: x[:, torch.tensor([1, 0])] + w[[1, 0], [0, 1]],
    "norm": lambda x, w: x / x.norm(dim=-1, keepdim=True),
    "statistics": lambda x, w: (
        x.var(-1) + x.std(0).sum() + x.mean() + x.mean(1) + x.sum() + x.prod(1) + w.sum(0)[1]
    ),
    "extremes": lambda x, w: x.amax(1) + x.amin(0)[0] + w.max() - w.min() + torch.maximum(x[:, 0], w[0, 0]),
    "cumulative": lambda x, w: x.cumsum(-1) + x.cumprod(-1),
    "activations": lambda x, w: (
        F.gelu(x) + F.silu(x) + F.relu(x) + torch.sigmoid(x) + F.softplus(x) + F.leaky_relu(x)
    ),
    "trigonometry": lambda x, w: (
        torch.atan2(x, w[0]) + torch.tan(x) + torch.deg2rad(x) + torch.sinc(x) + x.cosh()
    ),
    "layout": lambda x, w: (
        x.T.flatten().reshape(2, 3).flip(0).roll(1).repeat(1, 2).unsqueeze(0).expand(2, -1, -1)
    ),
    "casts": lambda x, w: x.double().to(torch.float64) + x.new_ones(2),
    "no_grad": lambda x, w: _without_grad(x) * x + x.detach() * w[0] + w.data[0],
    "lerp": lambda x, w: torch.lerp(x, w[0], 0.3) + torch.addcmul(x, x, w[1], value=0.5),
    "constant": lambda x, w: torch.linspace(0, 1, 4),
    "python loop": lambda x, w: sum(row * i for i, row in enumerate(x.unbind(1))),
}


def _without_grad(x):
    with torch.no_grad():
        return torch.sin(x)


def traced(code):
    """The traced result and the table; x has the features of all samples in a row."""
    nodes = Nodes()
    x = made([nodes.input(i) for i in range(SAMPLES * FEATURES)], nodes, (SAMPLES, FEATURES))
    w = made([nodes.weight("w", i) for i in range(4)], nodes, (2, 2))
    return code(x, w), nodes


def evaluate(nodes, ids, x, w):
    """Each expression at x (samples and features flattened to one sample) and w."""
    rows, number = compact(nodes.rows, ids)
    scheduler = Scheduler(rows, {"w": w.numel()}, x.numel(), [(number[i], 1.0, 0.0) for i in ids])
    weights = [w] if scheduler.schedule.weights else []
    sides = angles(x.reshape(1, -1), weights, scheduler.schedule.tables(CPU, x.dtype))
    return torch.stack(
        [(sides[0] if side == 0 else sides[1][0])[column] for side, column in scheduler.places]
    )


@pytest.mark.parametrize("name", CODE)
def test_trace_is_the_code(name):
    torch.manual_seed(0)
    x = torch.randn(SAMPLES, FEATURES, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    found, nodes = traced(CODE[name])
    expected = CODE[name](x, w)
    assert found.shape == expected.shape
    if not isinstance(found, Symbolic):
        assert_close(found.double(), expected.double())
        return
    values = evaluate(nodes, found.ids.reshape(-1).tolist(), x, w).reshape(expected.shape)
    assert_close(values, expected, rtol=1e-12, atol=1e-12)
    if expected.requires_grad:
        factors = torch.linspace(-1, 2, expected.numel(), dtype=torch.float64).reshape(expected.shape)
        assert_close(
            gradients(values * factors, x, w), gradients(expected * factors, x, w), rtol=1e-10, atol=1e-10
        )


def gradients(out, *wrt):
    if not out.requires_grad:
        return [torch.zeros_like(t) for t in wrt]
    found = torch.autograd.grad(out.sum(), wrt, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, wrt, strict=True)]


REFUSED = {
    "float": lambda x, w: float(x[0, 0]),
    "if": lambda x, w: x if x.sum() > 0 else w,
    "numpy": lambda x, w: x.detach().numpy(),
    "asarray": lambda x, w: np.asarray(x),
    "tolist": lambda x, w: x.tolist(),
    "item swallowed": lambda x, w: _swallowing(x),
    "dropout": lambda x, w: torch.dropout(x, 0.5, True),
    "integers": lambda x, w: x.long(),
    "complex": lambda x, w: x * 1j,
    "sort": lambda x, w: x.sort(),
    "argmax": lambda x, w: w[x.argmax()],
    "boolean index": lambda x, w: x[x > 0],
    "computed index": lambda x, w: x.gather(0, (x > 0).long()),
    "into a plain tensor": lambda x, w: torch.zeros(3, 2).copy_(x),
    "foreign parameter": lambda x, w: x * torch.ones(2, requires_grad=True),
    "softplus with options": lambda x, w: F.softplus(x, beta=2),
}


def _swallowing(x):
    try:
        return float(x[0, 0])
    except Exception:
        return 0.0


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_values_are_never_taken(name):
    nodes = Nodes()

    def watched(x, w):
        nonlocal nodes
        nodes = x.nodes
        return REFUSED[name](x, w)

    try:
        traced(watched)
    except ValueNeeded:
        return
    assert nodes.refused  # swallowed, yet remembered


def test_equal_expressions_are_one():
    nodes = Nodes()
    x, y = nodes.input(0), nodes.input(1)
    assert nodes.apply("mul", x, y) == nodes.apply("mul", x, y)
    assert nodes.affine(2.0, 1.0, nodes.affine(0.5, -0.5, x)) == x
    assert nodes.rows[nodes.apply("sin", nodes.constant(0.5))] == ("constant", math.sin(0.5))
    assert nodes.apply("sum", x, nodes.constant(2.0), nodes.constant(-2.0)) == x
    assert nodes.rows[nodes.apply("sub", nodes.constant(1.0), x)] == ("affine", -1.0, 1.0, x)


@given(
    st.lists(
        st.tuples(st.sampled_from(["sum", "mul", "sub"]), st.integers(0, 99), st.integers(0, 99)), max_size=12
    )
)
def test_compact_keeps_the_values(recipe):
    nodes = Nodes()
    made = [nodes.input(0), nodes.input(1), nodes.weight("w", 0), nodes.constant(0.3)]
    for function, a, b in recipe:
        made.append(nodes.apply(function, made[a % len(made)], made[b % len(made)]))
    roots = [made[-1], made[len(made) // 2]]
    rows, number = compact(nodes.rows, roots)
    assert len(rows) == len(reachable(nodes.rows, roots))
    assert compact(rows, [number[r] for r in roots])[0] == rows
    x, w = torch.tensor([0.4, -0.7], dtype=torch.float64), torch.tensor([1.1], dtype=torch.float64)
    values: list[float] = []
    for row in nodes.rows:
        values.append(by_hand(row, values, x, w))
    found = evaluate(nodes, roots, x, w)
    assert_close(found, torch.tensor([values[r] for r in roots], dtype=torch.float64), rtol=1e-9, atol=1e-9)


def by_hand(row, values, x, w):
    match row:
        case ("input", k):
            return float(x[k])
        case ("weight", _, i):
            return float(w[i])
        case ("constant", value):
            return value
        case ("affine", scale, offset, child):
            return scale * values[child] + offset
        case ("sub", a, b):
            return values[a] - values[b]
        case ("mul", a, b):
            return values[a] * values[b]
        case ("sum", *children):
            return sum(values[child] for child in children)


def test_identity_needs_no_steps():
    nodes = Nodes()
    outputs = [(nodes.input(i), 1.0, 0.0) for i in range(3)]
    schedule = Scheduler(nodes.rows, {}, 3, outputs).schedule
    x = torch.rand(4, 3)
    assert angles(x, [], schedule.tables(CPU, x.dtype))[1] is x


def test_schedule_groups_equal_work():
    nodes = Nodes()
    outputs = [
        (nodes.apply("mul", nodes.apply("sin", nodes.input(i)), nodes.weight("w", i)), 2.0, 0.5)
        for i in range(100)
    ]
    schedule = Scheduler(nodes.rows, {"w": 100}, 100, outputs).schedule
    assert [(step.function, step.count) for step in schedule.steps] == [("sin", 100), ("mul", 100)]


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[0],
        lambda x: x[..., 1],
        lambda x: x[:, None],
        lambda x: x.T,
        lambda x: x.permute(1, 0),
        lambda x: x.transpose(0, 1),
        lambda x: x.reshape(-1),
        lambda x: x.unbind(1)[1],
        lambda x: x.unsqueeze(0),
        lambda x: next(iter(x)),
        lambda x: x[[0, 2]],
    ],
)
def test_views_of_inputs(view):
    nodes = Nodes()
    x = made([nodes.input(i) for i in range(6)], nodes, (3, 2))
    seen = view(x)
    assert isinstance(seen, Symbolic)
    assert torch.equal(seen.ids, view(x.ids))
    assert seen.requires_grad


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[..., 0], lambda x: x.T, lambda x: x.unbind(1)[0]])
def test_inputs_are_not_written_into(view):
    nodes = Nodes()
    x = made([nodes.input(i) for i in range(6)], nodes, (3, 2))
    before = x.ids.clone()
    with pytest.raises(RuntimeError, match="leaf"):
        view(x).mul_(2)
    assert torch.equal(x.ids, before)
