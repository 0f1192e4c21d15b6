"""`torch.compile(backend="qbio")`: the rules in Dynamo's graphs, in training, with a batch of any size."""

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.testing import assert_close

from shared.errors import UserError
from shared.graph.compilers import gains


class Front(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.linear = nn.Conv1d(4, 8, 5), nn.MaxPool1d(4), nn.Linear(8, 2)

    def forward(self, tokens):
        x = F.one_hot(tokens, 4).transpose(1, 2).to(self.conv.weight.dtype)
        return self.linear(self.pool(F.relu(self.conv(x))).mean(-1))


def compiled(model, **options):
    return torch.compile(model, backend="qbio", fullgraph=True, dynamic=True, options=options)


@pytest.fixture
def log(caplog):
    """Starts to keep what is said of rewrites (in the test, as pytest sets the level anew after fixtures)."""

    def start():
        caplog.set_level(logging.INFO, "shared.graph.backend")
        return lambda: caplog.text

    return start


@pytest.mark.parametrize("inner", ["eager", "inductor"])
def test_training(log, inner):
    said = log()
    model = Front()
    faster = compiled(model, inner=inner)
    for batch in (3, 5):
        x = torch.randint(0, 4, (batch, 40))
        ours, theirs = (
            torch.autograd.grad(each(x).square().sum(), list(model.parameters())) for each in (faster, model)
        )
        assert_close(ours, theirs)
    assert said().count("token_conv1d + relu + max_pool1d -> token_conv1d_max_pool") == 1


def test_chosen_passes(log):
    said = log()
    x = torch.randint(0, 4, (2, 20))
    model = Front()
    assert_close(compiled(model, inner="eager", passes=["token_conv1d"])(x), model(x))
    assert "one_hot + conv1d -> token_conv1d" in said()
    assert "max_pool" not in said()


def test_mistakes():
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=r"expected options inner .* received"):
        compiled(Front(), speed=9)(torch.randint(0, 4, (2, 20)))


def test_records_of_dynamo_come_back():
    config = torch._dynamo.config
    before = config.record_runtime_overhead
    compiled(Front(), inner="eager")(torch.randint(0, 4, (2, 20)))
    assert config.record_runtime_overhead is before


def test_eager_where_inductor_has_nothing_to_fuse(log):
    said = log()
    compiled(Front())(torch.randint(0, 4, (2, 20)))
    assert "then eager" in said()


@pytest.mark.parametrize(
    ("function", "numbers", "gain"),
    [
        (lambda x: torch.relu(x @ x) @ x, 2**16, False),
        (lambda x: torch.relu(x @ x).T.reshape(-1).exp(), 2**16, True),
        (lambda x: torch.relu(x @ x).exp(), 2**10, False),
    ],
    ids=["between products", "through views", "few numbers"],
)
def test_what_gains(function, numbers, gain):
    graph = fx.symbolic_trace(function).graph
    for node in graph.nodes:
        node.meta["example_value"] = torch.empty(numbers)
    assert gains(graph) is gain


def test_an_error_is_told_as_it_is(capfd):
    faster, x = compiled(Front()), torch.randint(0, 4, (2, 20))
    faster(x)
    x[0, 0] = 4
    with pytest.raises(UserError, match="expected classes from 0 to 3, received 0 to 4"):
        faster(x)
    assert "FX-traced" not in "".join(capfd.readouterr())
