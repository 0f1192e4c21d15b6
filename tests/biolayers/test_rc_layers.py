"""Layers on maps of both strands: each is equivariant, whole models are, and each equals its plain peer."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import shared
from biolayers.alphabet import DNA
from biolayers.layers import (
    RCAvgPool1d,
    RCBatchNorm1d,
    RCConv1d,
    RCDropout,
    RCInvariant,
    RCLinear,
    RCMaxPool1d,
    RCResidual,
    RCTied,
    RCTokenConv1d,
    RCTokenConvBlock,
)

LAYERS = {
    "conv": lambda: RCConv1d(3, 4, 5, padding="same", dilation=2),
    "conv, valid": lambda: RCConv1d(3, 2, 4),
    "norm": lambda: RCBatchNorm1d(3),
    "norm, no statistics": lambda: RCBatchNorm1d(3, affine=False, track_running_stats=False),
    "max": lambda: RCMaxPool1d(4),
    "avg": lambda: RCAvgPool1d(3),
    "dropout": lambda: RCDropout(0.4),
    "dropout of channels": lambda: RCDropout(0.4, channels=True),
    "residual": lambda: RCResidual(RCConv1d(3, 3, 5), nn.ReLU(), RCConv1d(3, 3, 3)),
    "tied": lambda: RCTied(nn.Sequential(nn.Conv1d(3, 2, 4), nn.GELU(), nn.BatchNorm1d(2))),
}


def randomise(module):
    """Scales and shifts that are not one and zero, running statistics that are not the initial ones."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand_like(tensor, dtype=torch.float64) + 0.1
    return module


def run(module, x):
    """From the same random state and the same statistics."""
    torch.manual_seed(3)
    return copy.deepcopy(module)(x)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=6, deadline=None)
@given(length=st.integers(9, 40), seed=st.integers(0, 2**16))
def test_equivariant(name, training, length, seed):
    module = randomise(LAYERS[name]()).train(training)
    x = torch.randn(2, 6, length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(run(module, x.flip(1, 2)), run(module, x).flip(1, 2))


@pytest.mark.parametrize("mode", ["mean", "max", "both"])
@pytest.mark.parametrize("pool", [None, "mean", "max"])
def test_heads_do_not_see_the_strand(mode, pool):
    head, x = RCInvariant(mode, pool=pool), torch.randn(2, 6, 11, dtype=torch.float64)
    y, other = head(x), head(x.flip(1, 2))
    torch.testing.assert_close(other, y if pool else y.flip(-1))
    assert y.shape == (2, 6 if mode == "both" else 3, *(() if pool else (11,)))
    flat = RCInvariant(mode)(x[:, :, 0])
    torch.testing.assert_close(RCInvariant(mode)(x[:, :, 0].flip(1)), flat)


def test_invariant_head_by_hand():
    x = torch.tensor([[1.0, 2.0, 5.0, 7.0]])  # features 0 and 1, then 1 and 0 of the other strand
    assert RCInvariant("mean")(x).tolist() == [[4.0, 3.5]]
    assert RCInvariant("both")(x).tolist() == [[4.0, 3.5, 7.0, 5.0]]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("length", [24, 37])
def test_a_whole_model_predicts_the_same_for_both_strands(training, length):
    model = nn.Sequential(
        RCTokenConv1d(4, 6, 5, padding="same"),
        RCBatchNorm1d(6),
        nn.GELU(),
        RCMaxPool1d(2),
        RCDropout(0.3),
        RCResidual(RCConv1d(6, 6, 3, padding="same", dilation=2), nn.ReLU()),
        RCTied(nn.Conv1d(6, 4, 3)),
        RCInvariant("both", pool="mean"),
        nn.Linear(8, 3),
    ).double()
    model.train(training)
    tokens = torch.randint(0, 16, (4, length)).to(torch.uint8)
    x = tokens, DNA.reverse_complement(tokens)
    torch.testing.assert_close(*(run(model, strand) for strand in x))
    gradients = []
    for strand in x:  # and learns the same from them
        learner = copy.deepcopy(model)
        torch.manual_seed(3)
        learner(strand).square().sum().backward()
        gradients.append([p.grad for p in learner.parameters()])
    torch.testing.assert_close(*gradients)


def test_conv_and_linear_equal_explicit_filters():
    conv, linear = RCConv1d(3, 4, 5, dilation=2, padding=3), RCLinear(3, 4)
    x = torch.randn(2, 6, 20)
    weight, bias = (
        torch.cat((conv.weight, conv.weight.flip(0, 1, 2))),
        torch.cat((conv.bias, conv.bias.flip(0))),
    )
    torch.testing.assert_close(conv(x), F.conv1d(x, weight, bias, padding=3, dilation=2))
    torch.testing.assert_close(linear(x[:, :, 0].flip(1)), linear(x[:, :, 0]).flip(1))
    weight = torch.cat((linear.weight, linear.weight.flip(0, 1)))
    torch.testing.assert_close(linear(x.mT)[..., :4], F.linear(x.mT, weight[:4], linear.bias))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_norm_is_batch_norm_of_the_two_strands_as_a_batch(momentum):
    ours, peer = RCBatchNorm1d(3, momentum=momentum), nn.BatchNorm1d(3, momentum=momentum)
    for shape in ((4, 6, 9), (5, 6)):
        x = torch.randn(shape) * 2 + torch.arange(6.0).reshape(1, 6, *(1,) * (len(shape) - 2))
        theirs = peer(torch.cat((x[:, :3], x[:, 3:].flip(1))))
        torch.testing.assert_close(ours(x)[:, :3], theirs[: len(x)])
    assert ours.state_dict().keys() == peer.state_dict().keys()
    torch.testing.assert_close(ours.state_dict(), peer.state_dict())


@pytest.mark.parametrize("options", [
    {},
    {"pool_size": 5, "momentum": None, "bias": False},  # 37 positions: windows do not tile
    {"pool": None, "activation": "gelu", "padding": 1, "stride": 2, "channels_last": True},
])  # fmt: skip
def test_the_block_equals_its_parts(options):
    """In values, gradients and running statistics, in training and evaluation; and it is equivariant."""
    block = RCTokenConvBlock(4, 6, 5, dtype=torch.float64, **options)
    block.norm.weight.data.uniform_(-1, 2)
    parts = copy.deepcopy(block)
    for step, rows in enumerate((3, 5, 1)):
        tokens = torch.randint(0, 17, (rows, 37)).clamp(max=15).to(torch.uint8)
        block.train(step < 2)
        parts.train(step < 2)
        other = copy.deepcopy(block)(DNA.reverse_complement(tokens))
        ours, theirs = block(tokens), parts(one_hot(tokens))  # columns take the plain way
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(other, ours.flip(1, 2))
        torch.testing.assert_close(block.state_dict(), parts.state_dict())
        ours.cos().sum().backward()
        theirs.cos().sum().backward()
        gradients = ([p.grad for p in model.parameters()] for model in (block, parts))
        torch.testing.assert_close(*gradients)


def test_a_watched_or_refused_block():
    block, tokens, seen = RCTokenConvBlock(4, 3, 5, padding=0, stride=2), torch.zeros(2, 13).byte(), []
    plain = block(tokens)
    block.norm.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    torch.testing.assert_close(block(tokens), plain)
    assert seen == [(2, 6, 5)]
    block.norm._forward_hooks.clear()
    before = copy.deepcopy(block.state_dict())
    with pytest.raises(shared.UserError, match=r"crop .* by 1"):
        block(tokens[:, 1:])
    torch.testing.assert_close(block.state_dict(), before)


def one_hot(tokens):
    return (tokens.unsqueeze(1) == torch.arange(4).unsqueeze(1)).double()


def test_pools_are_plain_where_windows_tile():
    x = torch.randn(2, 6, 12)
    assert torch.equal(RCMaxPool1d(4)(x), F.max_pool1d(x, 4))
    assert torch.equal(RCAvgPool1d(4)(x), F.avg_pool1d(x, 4))
    assert torch.equal(RCMaxPool1d(4, stride=2)(x), F.max_pool1d(x, 4, 2))


@pytest.mark.parametrize(("size", "length"), [(2, 7), (3, 10), (4, 4), (5, 9)])
def test_pools_drop_no_position(size, length):
    for place in range(length):
        x = torch.zeros(1, 1, length)
        x[..., place] = 1
        assert RCMaxPool1d(size)(x).max() == 1
        assert RCMaxPool1d(size)(x).shape[-1] == length // size


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    x = torch.ones(50, 6, 40)
    layer = RCDropout(0.3)
    y = layer(x)
    assert abs(y.mean() - 1) < 0.02
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    assert (y[:, :3] != y[:, 3:].flip(1)).any()  # the two strands of one position have masks of their own
    whole = RCDropout(0.3, channels=True)(x)
    assert (whole == whole[..., :1]).all()
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (lambda: RCConv1d(3, 4, 5), (2, 5, 20), r"RCConv1d: expected \(b, 6, l\)"),
        (lambda: RCConv1d(3, 4, 5), (2, 6, 4), "at least 5 positions"),
        (lambda: RCConv1d(3, 4, 4, stride=3), (2, 6, 9), "crop .* by 2"),
        (lambda: RCLinear(3, 4), (2, 5), r"RCLinear: expected \(..., 6\)"),
        (lambda: RCBatchNorm1d(3), (2, 5, 9), r"expected \(b, 6\) or \(b, 6, l\)"),
        (lambda: RCDropout(), (2, 5, 9), "RCDropout"),
        (lambda: RCInvariant(), (2, 5, 9), "RCInvariant"),
        (lambda: RCInvariant(pool="max"), (2, 6), "positions to pool"),
        (lambda: RCMaxPool1d(5), (2, 6, 4), "at least 5 positions"),
        (lambda: RCMaxPool1d(3, stride=2), (2, 6, 8), "stride of 3"),
        (lambda: RCTied(nn.Identity()), (2, 5, 9), "RCTied"),
        (lambda: RCResidual(RCConv1d(3, 3, 4)), (2, 6, 9), "odd kernel_size"),
    ],
)
def test_bad_maps_are_refused(layer, shape, words):
    with pytest.raises(shared.UserError, match=words):
        layer()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RCDropout(1.5), "p from 0 to 1"),
        (lambda: RCInvariant("sum"), "mode.*'sum'"),
        (lambda: RCInvariant(pool="sum"), "pool.*'sum'"),
        (lambda: RCMaxPool1d(0), "kernel_size"),
        (lambda: RCLinear(0, 3), "at least 1 pair"),
        (lambda: RCConv1d(3, 4, 4, padding="same"), "odd kernel_size"),
    ],
)
def test_bad_options_are_refused(make, words):
    with pytest.raises(shared.UserError, match=words):
        make()


def test_an_empty_batch_stays_empty():
    x = torch.zeros(0, 6, 12)
    for layer in (RCConv1d(3, 4, 5), RCMaxPool1d(5), RCDropout(), RCInvariant(), RCTied(nn.Conv1d(3, 4, 5))):
        assert layer(x).shape[0] == 0
    tokens = torch.zeros(0, 12, dtype=torch.uint8)
    assert RCTokenConvBlock(4, 3, 5).eval()(tokens).shape == (0, 6, 6)
