"""Equal calls once, and unused ones never: the same values and gradients; and what forbids it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import shared

ONLY = ["duplicates", "dead_code"]


class By(nn.Module):
    """A forward of one's own, with some layers at hand."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.linear, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        self.drop, self.norm, self.act = nn.Dropout(0.5), nn.BatchNorm1d(3), nn.ReLU(inplace=True)
        self.register_buffer("scale", torch.rand(3))

    def forward(self, x):
        return self.way(self, x)


def optimized(way, **options):
    torch.manual_seed(0)
    model, x = By(way), torch.randn(4, 3)
    better = shared.optimize(model, x, passes=ONLY, **options)
    for mode in (True, False):
        same(better.train(mode), model.train(mode), x)
    assert list(better.state_dict()) == list(model.state_dict())
    assert not shared.optimize(better, x, passes=ONLY).report
    return better


def same(ours, theirs, x):
    found = []
    for module in (ours, theirs):
        torch.manual_seed(1)
        start, leaf = [each.clone() for each in module.buffers()], x.clone().requires_grad_()
        out = module(leaf)
        out = torch.cat([each.flatten() for each in out]) if isinstance(out, tuple) else out
        slopes = torch.autograd.grad(
            out.square().sum(), [leaf, *module.parameters()], allow_unused=True, materialize_grads=True
        )
        found.append([out, *slopes, *(each.clone() for each in module.buffers())])
        for each, before in zip(module.buffers(), start, strict=True):
            each.copy_(before)
    assert_close(*found)


def rewrites(better):
    return [f"{change.before} -> {change.after}" for change in better.report.changes]


def reasons(better):
    return " | ".join(refusal.reason for refusal in better.report.refusals)


def test_equal_calls():
    better = optimized(lambda m, x: m.linear(x).relu() + m.linear(x).relu() * 2)
    assert rewrites(better) == ["Linear + Linear -> Linear", "relu + relu -> relu"]


def test_the_size_that_is_asked_for_twice():
    better = optimized(lambda m, x: x.view(x.size(0), 3) + x.view(x.size(0), 3))
    assert rewrites(better) == ["size + size -> size", "view + view -> view"]


def test_numbers_that_only_look_equal():
    better = optimized(lambda m, x: x + 1 * (x + True) + (x + 1.0) + x * 0.0 + x * -0.0)
    assert not better.report


def test_random_numbers_are_drawn_twice():
    better = optimized(lambda m, x: m.drop(x) + m.drop(x) + torch.rand_like(x) * torch.rand_like(x))
    assert rewrites(better) == ["Dropout + Dropout -> Dropout"]  # in evaluation
    assert "draws random numbers" in reasons(better)


def test_statistics_of_a_batch_are_taken_twice():
    better = optimized(lambda m, x: m.norm(x) + m.norm(x))
    assert rewrites(better) == ["BatchNorm1d + BatchNorm1d -> BatchNorm1d"]
    assert "changes what it is given" in reasons(better)
    written = lambda m, x: F.batch_norm(x, m.scale, m.norm.running_var, training=True)  # noqa: E731
    assert not optimized(lambda m, x: written(m, x) + written(m, x)).report


def test_a_norm_between_two_equal_calls():
    better = optimized(lambda m, x: m.norm(m.linear(x)) * m.linear(x))
    assert rewrites(better) == ["Linear + Linear -> Linear"]


LEFT = {
    "changed in between": (lambda m, x: (y := x * 1).neg() + y.add_(1) + y.neg(), "between"),
    "changed later": (lambda m, x: m.linear(x).add_(1) + m.linear(x), "in place"),
    "changed by a layer": (lambda m, x: (y := m.linear(x)) - m.act(m.linear(x)) + y, "in place"),
    "both returned": (lambda m, x: (m.linear(x), m.linear(x)), "returns both"),
    "views returned": (lambda m, x: (m.linear(x)[0], m.linear(x)[1:]), "returns both"),
}


@pytest.mark.parametrize("way", LEFT)
def test_what_others_could_see_is_left_alone(way):
    forward, reason = LEFT[way]
    better = optimized(forward)
    assert not better.report, str(better.report)
    assert reason in reasons(better)


def test_a_graph_without_gradients():
    def forward(m, x):
        with torch.no_grad():
            y = m.linear(x)
        return y + m.linear(x)

    assert "does more than its calls say" in reasons(optimized(forward))


def test_what_nobody_uses():
    def forward(m, x):
        m.other(m.linear(x)).relu()
        m.drop(x)
        return m.linear(x)

    better = optimized(forward)
    assert "relu that nobody uses -> nothing" in rewrites(better)
    assert "Dropout that nobody uses -> nothing" in rewrites(better)  # in evaluation
    assert "nobody uses it, but it draws random numbers" in reasons(better)


def test_what_is_there_for_what_it_does():
    def forward(m, x):
        torch._assert(x.shape[0] == 4, "four")
        m.norm(x)
        return m.linear(x)

    better = optimized(forward)
    assert rewrites(better) == ["BatchNorm1d that nobody uses -> nothing"]  # in evaluation
    with pytest.raises(AssertionError, match="four"):
        better(torch.rand(3, 3))


def test_buffers_are_read_in_each_call():
    better = optimized(lambda m, x: x / (m.scale + 1) + m.linear(x) * m.linear(x))
    assert better.report
    better.load_state_dict({**better.state_dict(), "scale": torch.full((3,), 5.0)})
    x = torch.rand(2, 3)
    assert_close(better(x), better.deoptimize()(x))


def test_what_a_forward_makes_from_nothing():
    def forward(m, x):
        noise = torch.randn(3)
        place = torch.arange(x.shape[1], device=x.device)
        return m.linear(x) + m.linear(x) + noise + place + torch.tensor([1.0, 2.0, 3.0])

    better = optimized(forward)
    assert rewrites(better) == ["Linear + Linear -> Linear"]
    assert not any(name.startswith("_tensor") for name in vars(better.deoptimize()))
    assert not torch.equal(better(torch.zeros(1, 3)), better(torch.zeros(1, 3)))


STEPS = {
    "linear": lambda m, a, b: m.linear(a),
    "other": lambda m, a, b: m.other(a),
    "relu": lambda m, a, b: a.relu(),
    "function": lambda m, a, b: F.gelu(a),
    "add": lambda m, a, b: a + b,
    "scale": lambda m, a, b: a * m.scale,
    "drop": lambda m, a, b: m.drop(a),
    "norm": lambda m, a, b: m.norm(a),
    "in place": lambda m, a, b: a.clone().mul_(2),
    "view": lambda m, a, b: a.view(a.size(0), 3),
    "halve": lambda m, a, b: torch.cat(a.split([1, 2], -1)[::-1], -1),
}


@settings(max_examples=12)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3), st.integers(0, 3)), max_size=9),
    st.booleans(),
)
def test_any_graph(steps, pair):
    def forward(m, x):
        values = [x]
        for name, i, j in steps:
            values.append(STEPS[name](m, values[i % len(values)], values[j % len(values)]))
        last = m.linear(values[-1]) * 1.5
        return (last, values[-1] * 1) if pair else last

    optimized(forward)
