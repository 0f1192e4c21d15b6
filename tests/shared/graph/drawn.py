"""Models whose graph is drawn at random, and what every pass must leave equal."""

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

WIDTH = 3

# kind -> (results that it takes, what it holds, what it does)
KINDS = {
    "linear": (1, lambda: nn.Linear(WIDTH, WIDTH), lambda held, x: held(x)),
    "detour": (
        1,
        lambda: nn.Sequential(nn.Linear(WIDTH, 8 * WIDTH), nn.GELU(), nn.Linear(8 * WIDTH, WIDTH)),
        lambda held, x: held(x),
    ),
    "norm": (1, lambda: nn.LayerNorm(WIDTH), lambda held, x: held(x)),
    "batch norm": (1, lambda: nn.BatchNorm1d(WIDTH), lambda held, x: held(x)),
    "dropout": (1, lambda: nn.Dropout(0.3), lambda held, x: held(x)),
    "gelu": (1, nn.GELU, lambda held, x: held(x)),
    "tanh": (1, None, lambda held, x: x.tanh()),
    "in place": (1, None, lambda held, x: x.clone().sigmoid_()),
    "wide": (1, None, lambda held, x: x.repeat(1, 9).cos().reshape(len(x), 9, WIDTH).mean(1)),
    "add": (2, None, lambda held, x, y: x + y),
    "multiply": (2, None, lambda held, x, y: x * y.sin()),
    "cat": (2, lambda: nn.Linear(2 * WIDTH, WIDTH), lambda held, x, y: held(torch.cat([x, y], -1))),
}


class Drawn(nn.Module):
    """Calls of these kinds, each on earlier results; all results that nothing takes come out together."""

    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        self.held = nn.ModuleList(
            [nn.Identity() if KINDS[kind][1] is None else KINDS[kind][1]() for kind, _ in plan]
        ).double()

    def forward(self, x):
        found, free = [x], set()
        for held, (kind, sources) in zip(self.held, self.plan, strict=True):
            taken = [each % len(found) for each in sources[: KINDS[kind][0]]]
            free = (free - set(taken)) | {len(found)}
            found.append(KINDS[kind][2](held, *(found[each] for each in taken)))
        return torch.cat([found[each] for each in sorted(free)], -1)


plans = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.tuples(st.integers(0, 40), st.integers(0, 40))),
    min_size=2,
    max_size=14,
)


def inputs() -> Tensor:
    return torch.rand(5, WIDTH, dtype=torch.float64)


def outcome(model, x, *, training):
    """Values, gradients of the inputs and parameters, and what buffers are after it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    model.train(training)
    x = x.clone().requires_grad_()
    y = model(x)
    moving = [x, *model.parameters()]
    slopes = torch.autograd.grad(y.square().sum(), moving, allow_unused=True)
    after = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(before)
    return y, slopes, after


def assert_same(better, model, x):
    """The same values, gradients, buffers and random numbers in both modes; the same parameters by name."""
    assert list(better.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(better.parameters(), model.parameters(), strict=True))
    for training in (False, True):
        ours, theirs = (outcome(each, x, training=training) for each in (better, model))
        assert_close(ours, theirs)
