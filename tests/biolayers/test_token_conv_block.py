"""The block of convolution, normalisation, activation and pooling: against the same modules of `torch.nn`."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import shared
from biolayers.layers import TokenConvBlock
from biolayers.ops import token_pair_counts
from shared.threads import finest_grain


def tokens_of(b, l, channels=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, channels + 2, (b, l), generator=rng).to(torch.uint8)


def one_hot(tokens, dtype=torch.float64, channels=4):
    return (tokens.unsqueeze(1) == torch.arange(channels).unsqueeze(1)).to(dtype)


# counts


def by_hand(tokens, channels, k, stride, padding, dilation):
    found = torch.zeros(channels * k, channels * k, dtype=torch.int64)
    for line in tokens.tolist():
        line = [channels] * padding + line + [channels] * padding
        for p in range(0, len(line) - dilation * (k - 1), stride):
            rows = [line[p + j * dilation] * k + j for j in range(k) if line[p + j * dilation] < channels]
            for i, j in itertools.product(rows, rows):
                found[i, j] += 1
    return found


@st.composite
def words(draw):
    k, geometry = (
        draw(st.integers(1, 6)),
        (draw(st.integers(1, 3)), draw(st.integers(0, 7)), draw(st.integers(1, 3))),
    )
    shortest = max(1, geometry[2] * (k - 1) + 1 - 2 * geometry[1])
    tokens = tokens_of(
        draw(st.integers(0, 3)), shortest + draw(st.integers(0, 12)), seed=draw(st.integers(0, 99))
    )
    return tokens, draw(st.integers(1, 5)), k, *geometry


@settings(max_examples=25, deadline=None)
@given(words())
def test_pair_counts_are_those_by_hand(call):
    expected = by_hand(*call)
    for provider in ("numba", "reference"):
        with shared.prefer(provider):
            assert torch.equal(token_pair_counts(*call), expected)


def test_pair_counts_in_several_shares():
    tokens = tokens_of(90, 700)
    with shared.prefer("reference"):
        expected = token_pair_counts(tokens, 4, 7, 1, 3, 1)
    with finest_grain():
        assert torch.equal(token_pair_counts(tokens, 4, 7, 1, 3, 1), expected)


@pytest.mark.parametrize("provider", ["numba", "reference"])
def test_pair_counts_refuse(provider):
    with shared.prefer(provider):
        with pytest.raises(shared.UserError, match="uint8"):
            token_pair_counts(torch.zeros(2, 9), 4, 3)
        with pytest.raises(shared.UserError, match="channels of at least 1"):
            token_pair_counts(tokens_of(2, 9), 0, 3)
        with pytest.raises(shared.UserError, match="at least 12 tokens"):
            token_pair_counts(tokens_of(2, 9), 4, 12)


# the block

OPTIONS = [
    {},
    {"padding": "same", "pool_size": 3, "pool_stride": 2},
    {"stride": 2, "padding": 2, "dilation": 2, "bias": False},
    {"momentum": None, "activation": None, "channels_last": True},
    {"activation": "gelu", "pool": "avg"},
    {"activation": "exp"},
    {"activation": "relu", "pool": None},
]


def pair_of(options, dtype=torch.float64):
    """A block with scales of either sign, and its copy, which gets columns and so takes the plain way."""
    block = TokenConvBlock(4, 6, 4, dtype=dtype, **options)
    nn.init.normal_(block.norm.weight, std=0.5)
    nn.init.normal_(block.norm.bias, std=0.5)
    return block, copy.deepcopy(block)


def step(block, given, grad):
    block.zero_grad()
    y = block(given)
    y.backward(grad[: y.numel()].view(y.shape))
    return y.detach(), [p.grad for p in block.parameters()], [b.double() for b in block.buffers()]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())) or "plain")
def test_training_equals_the_plain_way(options):
    block, peer = pair_of(options)
    for batch in range(4):
        if batch == 3:
            block.eval(), peer.eval()
        tokens, grad = tokens_of(5, 30, seed=batch), torch.randn(1000, dtype=torch.float64)
        for ours, theirs in zip(step(block, tokens, grad), step(peer, one_hot(tokens), grad), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert block.norm.num_batches_tracked == 3
    assert block.state_dict().keys() == peer.state_dict().keys()


def test_without_running_statistics():
    block, peer = pair_of({})
    for each in (block, peer):
        each.norm = nn.BatchNorm1d(6, track_running_stats=False, affine=False, dtype=torch.float64)
        each.eval()
    tokens = tokens_of(5, 30)
    torch.testing.assert_close(block(tokens), peer(one_hot(tokens)), rtol=1e-10, atol=1e-10)


def test_float32_equals_float64():
    block, _ = pair_of({}, torch.float32)
    exact = copy.deepcopy(block).double()
    tokens = tokens_of(8, 60)
    torch.testing.assert_close(block(tokens).double(), exact(tokens), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(block.norm.running_var.double(), exact.norm.running_var, rtol=1e-6, atol=1e-7)


def test_nothing_large_is_written_before_pooling(monkeypatch):
    """With tokens neither the convolution alone nor the normalisation runs; with a hook both do."""
    block, _ = pair_of({})
    tokens = tokens_of(3, 30)
    expected = copy.deepcopy(block)(tokens)
    seen = []
    hooked = copy.deepcopy(block)
    hooked.norm.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    torch.testing.assert_close(hooked(tokens), expected)
    assert seen == [(3, 6, 30)]
    monkeypatch.setattr(nn.BatchNorm1d, "forward", None)
    torch.testing.assert_close(block(tokens), expected)


def test_without_normalisation():
    block = TokenConvBlock(4, 6, 4, norm=None)
    assert block.norm is None
    tokens = tokens_of(3, 30)
    torch.testing.assert_close(block(tokens), block(one_hot(tokens, torch.float32)))


def test_another_normalisation_is_respected():
    block, _ = pair_of({})
    block.norm = nn.InstanceNorm1d(6, dtype=torch.float64)
    tokens = tokens_of(3, 30)
    torch.testing.assert_close(block(tokens), block(one_hot(tokens)))


def test_compiles():
    block, peer = pair_of({})
    tokens, grad = tokens_of(3, 30), torch.randn(1000, dtype=torch.float64)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    y = compiled(tokens)
    y.backward(grad[: y.numel()].view(y.shape))
    found = y.detach(), [p.grad for p in block.parameters()], [b.double() for b in block.buffers()]
    torch.testing.assert_close(found, step(peer, one_hot(tokens), grad), rtol=1e-10, atol=1e-10)


def test_one_value_per_channel_and_no_sequence():
    block = TokenConvBlock(4, 6, 4, padding=0, pool=None)
    with pytest.raises(shared.UserError, match="more than one value per channel"):
        block(tokens_of(1, 4))
    assert block.eval()(tokens_of(1, 4)).shape == (1, 6, 1)
    assert block(tokens_of(0, 9)).shape == (0, 6, 6)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"norm": "layer"}, "'layer'"), ({"activation": "tanh"}, "'tanh'"), ({"pool_size": 0}, "pool_size")],
)
def test_refuses(options, words):
    with pytest.raises(shared.UserError, match=words):
        TokenConvBlock(4, 6, 4, **options)
