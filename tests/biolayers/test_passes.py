"""Letters before a convolution, norms and pooling behind it: rewritten where equal, left where not."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from passes import Model, compare, draw, fired, reasons
from torch import nn

import shared


def columns(t):
    return F.one_hot(t, 4).transpose(1, 2).double()


def conv(m, t):
    return m.conv(columns(t))


# what users write -> the rules that fire
FORMS = {
    "same": (lambda m, t: m.same(columns(t)), ["token_conv1d"]),
    "same, one more at the end": (lambda m, t: m.even(columns(t)), ["token_conv1d"]),
    "matrix transpose": (lambda m, t: m.conv(F.one_hot(t, 4).mT.double()), ["token_conv1d"]),
    "through half": (lambda m, t: m.conv(columns(t).to(torch.float16).double()), ["token_conv1d"]),
    "comparison": (
        lambda m, t: m.conv((t.unsqueeze(-1) == torch.arange(4)).double().permute(0, 2, 1)),
        ["token_conv1d"],
    ),
    "norm": (lambda m, t: m.norm(conv(m, t)), ["token_conv1d", "token_conv1d_norm"]),
    "norm, ReLU, pool": (
        lambda m, t: F.max_pool1d(m.norm(conv(m, t)).relu(), 4),
        ["token_conv1d", "token_conv1d_norm", "token_conv1d_max_pool"],
    ),
    "norm as a function": (
        lambda m, t: F.max_pool1d(
            F.batch_norm(
                conv(m, t),
                m.norm.running_mean,
                m.norm.running_var,
                m.norm.weight,
                m.norm.bias,
                m.training,
                0.3,
                1e-3,
            ),
            4,
        ),
        ["token_conv1d", "token_conv1d_norm", "token_conv1d_max_pool"],
    ),
    "norm without statistics": (
        lambda m, t: F.batch_norm(conv(m, t), None, None, training=True),
        ["token_conv1d", "token_conv1d_norm"],
    ),
    "pool, then ReLU": (
        lambda m, t: F.relu(F.max_pool1d(conv(m, t), 3)),
        ["token_conv1d", "token_conv1d_max_pool", "token_conv1d_relu"],
    ),
    "exp, then pool": (
        lambda m, t: F.max_pool1d(conv(m, t).exp(), 3, 2),
        ["token_conv1d", "token_conv1d_max_pool"],
    ),
    "over all": (
        lambda m, t: F.adaptive_max_pool1d(conv(m, t).relu(), 1),
        ["token_conv1d", "token_conv1d_max_pool"],
    ),
    "max": (lambda m, t: conv(m, t).max(-1).values, ["token_conv1d", "token_conv1d_max_pool"]),
    "max, kept": (
        lambda m, t: torch.max(conv(m, t).relu(), dim=2, keepdim=True)[0],
        ["token_conv1d", "token_conv1d_max_pool"],
    ),
    "GELU and means": (
        lambda m, t: F.avg_pool1d(F.gelu(conv(m, t)), 3),
        ["token_conv1d", "token_conv1d_avg_pool"],
    ),
    "norm and means": (
        lambda m, t: F.avg_pool1d(m.norm(conv(m, t)).exp(), 4, 2),
        ["token_conv1d", "token_conv1d_norm", "token_conv1d_avg_pool"],
    ),
    "mean over all": (
        lambda m, t: conv(m, t).relu().mean(dim=-1, keepdim=True),
        ["token_conv1d", "token_conv1d_avg_pool"],
    ),
    "global means": (
        lambda m, t: (
            F.adaptive_avg_pool1d(m.strided(columns(t)), 1) + torch.mean(conv(m, t), (2,))[..., None]
        ),
        ["token_conv1d", "token_conv1d", "token_conv1d_avg_pool", "token_conv1d_avg_pool"],
    ),
    "nothing in between": (
        lambda m, t: F.max_pool1d(m.nothing(F.dropout(conv(m, t).relu(), 0.0, False)), 4),
        ["token_conv1d", "token_conv1d_max_pool"],
    ),
    "there and back": (
        lambda m, t: F.max_pool1d(m.nothing(conv(m, t).transpose(1, 2)).transpose(2, 1).relu(), 4),
        ["token_conv1d", "token_conv1d_max_pool"],
    ),
    "image": (
        lambda m, t: F.relu(m.tall(columns(t).unsqueeze(1))).squeeze(2),
        ["token_conv1d", "image_row", "image_row"],
    ),
    "Basset": (
        lambda m, t: F.max_pool2d(F.relu(m.norm2d(m.tall(columns(t)[:, None]))), (1, 3)).flatten(1),
        ["token_conv1d", "token_conv1d_norm", "image_row", "image_row", "token_conv1d_max_pool"],
    ),
    "embedding": (lambda m, t: m.wide(m.table(t).transpose(1, 2)), ["token_conv1d"]),
    "embedding, frozen": (lambda m, t: m.wide(m.frozen(t).transpose(1, 2)), ["token_conv1d"]),
    "embedding, a row without gradient": (
        lambda m, t: F.max_pool1d(m.wide(m.padded(t).mT).relu(), 4),
        ["token_conv1d", "token_conv1d_max_pool"],
    ),
    "embedding, columns flipped": (lambda m, t: m.wide(m.table(t).mT.flip(1, 2)), ["token_conv1d"]),
    "both flips": (lambda m, t: m.conv(columns(t).flip(1, 2)), ["token_conv1d"]),
    "backwards": (lambda m, t: m.conv(torch.flip(columns(t), [-1])), ["token_conv1d"]),
    "complement": (lambda m, t: m.conv(columns(t).flip(1)), ["token_conv1d"]),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    forward, rules = FORMS[form]
    model = Model(forward)
    better = compare(model, draw(3, 40))
    assert fired(better) == rules, str(better.report)


def front(m, x):
    return F.max_pool1d(m.conv(x).relu(), 4)


def tokens_front(m, t):
    return m.conv(columns(t)).max(-1).values


# two strands: how the other one is made, and what is done with the two
STRANDS = {
    "mean of flips": lambda m, t: (front(m, columns(t)) + front(m, columns(t).flip(1, 2))) / 2,
    "windows with a rest": lambda m, t: torch.maximum(
        F.max_pool1d(m.conv(columns(t)), 5), F.max_pool1d(m.conv(columns(t).flip([-1, -2])), 5)
    ),
    "stride with a rest": lambda m, t: m.strided(columns(t)) * m.strided(columns(t).flip(1, 2)),
    "convolution": lambda m, t: m.conv(columns(t)) + m.conv(columns(t)[:, [3, 2, 1, 0]].flip(-1)),
    "letters": lambda m, t: torch.maximum(tokens_front(m, t), tokens_front(m, (3 - t).flip(1))),
    "letters by a table": lambda m, t: (
        tokens_front(m, t) + tokens_front(m, torch.tensor([3, 2, 1, 0])[t].flip(-1))
    ),
    "the other strand first": lambda m, t: (lambda r: front(m, r.flip(1, 2)) - front(m, r))(columns(t)),
    "means": lambda m, t: (
        F.avg_pool1d(m.conv(columns(t)).exp(), 4, 2) + F.avg_pool1d(m.conv(columns(t).flip(1, 2)).exp(), 4, 2)
    ),
    "means of all": lambda m, t: torch.stack(
        [m.conv(x).relu().mean(-1) for x in (columns(t), columns(t).flip(1, 2))]
    ).amax(0),
    "table": lambda m, t: m.wide(m.frozen(t).mT) + m.wide(m.frozen(3 - t).mT.flip(2)),
}


@pytest.mark.parametrize("form", STRANDS)
def test_strands(form):
    model = Model(STRANDS[form])
    better = compare(model, draw(3, 40), also=draw(2, 41))
    assert fired(better)[-1] == "token_conv1d_strands", str(better.report)


def _with_norm_in_training(model, t):
    model.eval().norm.train()
    return model(t)


def test_strands_with_a_norm():
    """In evaluation both strands meet the same filters, in training each has statistics of its own."""
    model = Model(
        lambda m, t: sum(F.max_pool1d(m.norm(m.conv(x)), 4) for x in (columns(t), columns(t).flip(1, 2)))
    )
    better = compare(model, draw(3, 40), also=draw(2, 41))
    assert fired(better).count("token_conv1d_strands") == 1
    assert "do not meet the same filters" in reasons(better)
    better.eval().norm.train()  # of the model, too
    plain, t = copy.deepcopy(model), draw(2, 40)
    with pytest.warns(shared.graph.ChangedSinceWarning, match="training"):
        ours = better(t)
    torch.testing.assert_close(ours, _with_norm_in_training(plain, t))


def test_two_strands_through_different_filters_stay():
    model = Model(lambda m, t: m.conv(columns(t)) + m.conv2(columns(t).flip(1, 2)))
    model.conv2 = copy.deepcopy(model.conv)
    better = compare(model, draw(3, 40))
    assert "do not meet the same filters" in reasons(better)
    assert "token_conv1d_strands" not in fired(better)


def test_complements_that_may_change_are_said():
    model = Model(lambda m, t: tokens_front(m, t) + tokens_front(m, m.complement[t].flip(-1)))
    model.register_buffer("complement", torch.tensor([3, 2, 1, 0]))
    better = compare(model, draw(3, 40))
    assert "which may change: write 3 - tokens" in reasons(better)


# what users write -> why it stays
LEFT = {
    "ready columns": (lambda m, x: m.conv(x), lambda: columns(draw(2, 30)), "no type says so"),
    "ready image": (
        lambda m, x: m.tall(x.unsqueeze(1)),
        lambda: columns(draw(2, 30)),
        "biolayers.layers.TokenConv1d",
    ),
    "amax": (lambda m, t: conv(m, t).amax(-1), lambda: draw(2, 30), "shares the gradient"),
    "used twice": (
        lambda m, t: (lambda y: F.max_pool1d(y, 3).mean() + y.mean())(conv(m, t)),
        lambda: draw(2, 30),
        "is pooled is used elsewhere",
    ),
    "norm of what is used twice": (
        lambda m, t: (lambda y: m.norm(y) + y)(conv(m, t)),
        lambda: draw(2, 30),
        "is normalised is used elsewhere",
    ),
    "low image": (
        lambda m, t: m.low(columns(t).unsqueeze(1)),
        lambda: draw(2, 30),
        "as high as the image",
    ),
    "indices": (
        lambda m, t: F.adaptive_max_pool1d(conv(m, t), 2),
        lambda: draw(2, 30),
        "to one value",
    ),
    "means beside": (
        lambda m, t: F.avg_pool1d(conv(m, t), 3, padding=1),
        lambda: draw(2, 30),
        "without padding",
    ),
    "approximate GELU": (
        lambda m, t: F.gelu(conv(m, t), approximate="tanh").mean(-1),
        lambda: draw(2, 30),
        "not its approximation",
    ),
    "mean over filters": (lambda m, t: conv(m, t).mean(1), lambda: draw(2, 30), "over the positions"),
    "large table": (
        lambda m, t: m.wide(m.large(t).mT),
        lambda: draw(2, 30),
        "300 rows",
    ),
    "renormalised table": (
        lambda m, t: m.wide(m.bounded(t).mT),
        lambda: draw(2, 30),
        "max_norm",
    ),
}


@pytest.mark.parametrize("form", LEFT)
def test_what_stays(form):
    forward, inputs, reason = LEFT[form]
    model = Model(forward)
    better = compare(model, inputs())
    assert reason in reasons(better), str(better.report)
    stays = {"token_conv1d_max_pool", "token_conv1d_avg_pool", "token_conv1d_norm"}
    assert not stays & set(fired(better))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=10, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "kernel_size": st.integers(1, 6),
            "stride": st.integers(1, 2),
            "padding": st.one_of(st.integers(0, 3), st.sampled_from(["same", "valid"])),
            "dilation": st.integers(1, 2),
            "bias": st.booleans(),
        }
    ),
    st.permutations(["norm", "relu", "pool"]),
    st.integers(1, 3),
    st.sampled_from(["max", "avg"]),
    st.sampled_from(["one_hot", "embedding"]),
    st.booleans(),
    st.integers(1, 4),
)
def test_any_front(sizes, order, pool, kind, source, other, batch):
    if sizes["padding"] == "same":
        sizes["stride"] = 1
    width = 4 if source == "one_hot" else 3
    layer = nn.Conv1d(width, 5, dtype=torch.float64, **sizes)
    pools = {"max": nn.MaxPool1d, "avg": nn.AvgPool1d}
    steps = {"norm": nn.BatchNorm1d(5, dtype=torch.float64), "relu": nn.ReLU(), "pool": pools[kind](pool)}
    front = nn.Sequential(layer, *(step for name in order for step in (nn.Identity(), steps[name])))

    def forward(m, t):
        x = columns(t) if source == "one_hot" else m.table(t).mT
        return m.front(x.flip(1, 2) if other else x)

    model = Model(forward)
    model.front = front
    better = compare(model, draw(batch, 30))
    assert "token_conv1d" in fired(better)


def test_the_norms_own_mode_counts():
    """A norm that a user freezes keeps its statistics while the rest trains, in the copy as in the model."""
    model = Model(lambda m, t: m.norm(conv(m, t)))
    better, x = shared.optimize(model, draw(3, 40)), draw(3, 40)
    model.norm.eval()
    before = copy.deepcopy(model.norm.state_dict())
    torch.testing.assert_close(better(x), model(x))
    torch.testing.assert_close(model.norm.state_dict(), before)


def test_an_empty_batch():
    model = Model(lambda m, t: F.max_pool1d(m.norm(conv(m, t)).relu(), 4))
    compare(model, draw(2, 30), also=draw(0, 30))
