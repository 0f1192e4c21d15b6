"""Both strands in one pass: equivariance as a property, equality with explicit filters, gradients, errors."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers.alphabet import DNA, PAD
from biolayers.layers import RCTokenConv1d
from biolayers.ops import rc_token_conv1d, token_conv1d_backward

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}  # of the largest value
PARTNER = dict(
    zip("ACGTNRYSWKMBDHV-", "TGCANYRSWMKVHDB-", strict=True)
)  # by hand, from the letters' meanings


def one_hot(tokens, dtype):
    return (tokens.unsqueeze(1) == torch.arange(4).unsqueeze(1)).to(dtype)


def example(b, l, out, k, dtype=torch.float64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 17, (b, l), generator=rng).clamp(max=15)
    tokens = torch.where(torch.rand(b, l, generator=rng) < 0.6, tokens % 4, tokens).to(torch.uint8)
    return (
        tokens,
        torch.randn(out, 4, k, generator=rng, dtype=dtype),
        torch.randn(out, generator=rng, dtype=dtype),
    )


@st.composite
def calls(draw):
    k, stride, dilation = draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    padding, steps = draw(st.integers(0, 6)), draw(st.integers(0, 30))
    length = steps * stride + dilation * (k - 1) + 1 - 2 * padding
    while length < 1:
        length += stride
    return (draw(st.integers(0, 3)), length, draw(st.integers(1, 19)), k), (stride, padding, dilation)


@settings(max_examples=40, deadline=None)
@given(calls(), st.sampled_from((torch.float64, torch.float32)), st.integers(0, 2**16))
def test_the_other_strand_flips_the_output(call, dtype, seed):
    """In both kernels, and equal to a convolution with concat(W, flip(W)) and to its gradients."""
    sizes, geometry = call
    tokens, weight, bias = example(*sizes, dtype, seed)
    leaves = [weight.requires_grad_(), bias.requires_grad_()]
    both = torch.cat((weight, weight.flip(0, 1, 2))), torch.cat((bias, bias.flip(0)))
    theirs = F.conv1d(one_hot(tokens, dtype), *both, *geometry)
    grad = torch.cos(theirs.detach() * 3)
    wanted = torch.autograd.grad(theirs, leaves, grad)
    scale = max(1.0, grad.abs().sum().item(), theirs.detach().abs().sum().item())
    for provider in ("numba", "reference"):
        with shared.prefer(provider):
            ours = rc_token_conv1d(tokens, *leaves, *geometry)
            other = rc_token_conv1d(DNA.reverse_complement(tokens), *leaves, *geometry)
            found = torch.autograd.grad(ours, leaves, grad)
        assert ours.shape == theirs.shape
        for a, b in ((other, ours.flip(1, 2)), (ours, theirs), *zip(found, wanted, strict=True)):
            assert torch.allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * scale)


def test_every_letter_on_the_other_strand():
    """All IUPAC letters, gap and padding, complemented by a table of our own and reversed."""
    letters = "ACGTNRYSWKMBDHV-ACCTGA"
    mirrored = "".join(PARTNER[letter] for letter in reversed(letters))
    pad = torch.full((1, 2), PAD, dtype=torch.uint8)
    given = torch.cat((DNA.tokens([letters]), pad), 1)
    other = torch.cat((pad, DNA.tokens([mirrored])), 1)
    _, weight, bias = example(1, 1, 5, 4)
    y = rc_token_conv1d(given, weight, bias, 1, 3)
    assert torch.allclose(rc_token_conv1d(other, weight, bias, 1, 3), y.flip(1, 2), atol=1e-12)
    assert not rc_token_conv1d(torch.full((2, 9), DNA.unknown_token, dtype=torch.uint8), weight).any()


def test_the_definition():
    tokens, weight, bias = example(2, 9, 3, 3)
    y = rc_token_conv1d(tokens, weight, bias)
    for b, o, p in ((0, 0, 0), (1, 2, 6), (0, 1, 3)):
        window = tokens[b, p : p + 3].tolist()
        plus = sum(weight[o, t, j] for j, t in enumerate(window) if t < 4) + bias[o]
        minus = sum(weight[o, 3 - t, 2 - j] for j, t in enumerate(window) if t < 4) + bias[o]
        torch.testing.assert_close(y[b, o, p], plus)
        torch.testing.assert_close(y[b, 5 - o, p], minus)


def test_tied_gradient_is_the_fold_of_both_strands():
    tokens, weight, _ = example(2, 12, 3, 4)
    weight.requires_grad_()
    grad = torch.randn(2, 6, 9, dtype=torch.float64)
    rc_token_conv1d(tokens, weight).backward(grad)
    free, _ = token_conv1d_backward(tokens, grad, 4, 4)
    torch.testing.assert_close(weight.grad, free[:3] + free[3:].flip(0, 1, 2))


def test_memory_and_layout(poisoned_memory):
    tokens, weight, bias = example(2, 1043, 17, 5, torch.float32)
    y = rc_token_conv1d(tokens, weight, bias)
    assert y.is_contiguous()
    assert not y.isnan().any()
    apart = [torch.stack((t, t), -1)[..., 0] for t in (tokens, weight, bias)]
    assert torch.equal(rc_token_conv1d(*apart), y)


@pytest.mark.parametrize("dims", [(0, None, None), (None, 0, None), (None, 1, 0), (0, 0, 0), (None, None, 0)])
def test_vmap(dims):
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 6, (3, 2, 9), generator=rng).to(torch.uint8)
    weight = torch.randn(3, 2, 4, 3, generator=rng, dtype=torch.float64)
    bias = torch.randn(3, 2, generator=rng, dtype=torch.float64)
    all_of = [t if d is not None else t[0] for t, d in zip((tokens, weight, bias), dims, strict=True)]
    parts = [
        rc_token_conv1d(*(t if d is None else t[i] for t, d in zip(all_of, dims, strict=True)))
        for i in range(3)
    ]
    placed = [t if d is None else t.movedim(0, d) for t, d in zip(all_of, dims, strict=True)]
    mapped = torch.func.vmap(rc_token_conv1d, in_dims=dims)(*placed)
    torch.testing.assert_close(mapped, torch.stack(parts))


def test_a_stride_that_leaves_a_rest_is_refused():
    tokens, weight, bias = example(2, 10, 3, 3)
    for provider in ("numba", "reference"):
        with (
            shared.prefer(provider),
            pytest.raises(shared.UserError, match=r"received 10.*crop .* by 1, leng"),
        ):
            rc_token_conv1d(tokens, weight, bias, 2)
    assert rc_token_conv1d(tokens[:, 1:], weight, bias, 2).shape == (2, 6, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(2, 9, dtype=torch.int64), torch.ones(1, 4, 3)), "uint8.*int64"),
        ((torch.zeros(2, 9, dtype=torch.uint8), torch.ones(2, 4, 12)), "at least 12 tokens.*received 9"),
        ((torch.zeros(2, 9, dtype=torch.uint8), torch.ones(2, 4, 3), torch.ones(4)), r"bias \(2,\)"),
    ],
)
def test_errors_name_what_is_wrong(arguments, words):
    with pytest.raises(shared.UserError, match=words):
        rc_token_conv1d(*arguments)


# the layer


@pytest.mark.parametrize("options", [
    {"padding": "same"},
    {"stride": 2, "activation": "exp"},
    {"activation": "relu", "pool": "max", "pool_size": 4},  # 32 windows do, 33 positions do not divide
    {"activation": "gelu", "pool": "avg", "pool_size": 5, "channels_last": True},
    {"pool": "max", "pool_size": 3, "pool_stride": 2, "bias": False},
    {"activation": "relu", "pool": "max", "pool_size": 11},  # 33 positions
    {"activation": "exp", "pool": "max", "pool_size": 3, "channels_last": True},
    {"activation": "gelu", "pool": "max", "pool_size": 11},
])  # fmt: skip
def test_layer_is_equivariant_and_takes_columns(options):
    """Fused or not: the columns take the way of plain PyTorch, gradients included."""
    layer = RCTokenConv1d(4, 5, 5, dtype=torch.float64, **options)
    tokens, *_ = example(2, 37, 5, 5)
    y = layer(tokens)
    torch.testing.assert_close(layer(DNA.reverse_complement(tokens)), y.flip(1, 2))
    columns = one_hot(tokens, torch.float64).requires_grad_()
    torch.testing.assert_close(layer(columns), y)
    wanted = torch.autograd.grad(layer(columns).sin().sum(), (columns, *layer.parameters()))
    found = torch.autograd.grad(y.sin().sum(), list(layer.parameters()))
    torch.testing.assert_close(found, wanted[1:])
    assert wanted[0].isfinite().all()
    assert y.is_contiguous()


def test_layer_starts_as_conv1d_does_and_trains_compiled():
    torch.manual_seed(1)
    ours = RCTokenConv1d(4, 7, 5)
    torch.manual_seed(1)
    theirs = torch.nn.Conv1d(4, 7, 5)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    tokens, *_ = example(2, 20, 7, 5)
    ours(tokens).square().sum().backward()
    wanted, ours.weight.grad = ours.weight.grad, None
    torch.compile(ours, backend="aot_eager", fullgraph=True)(tokens).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, wanted)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel_size": 0}, "kernel_size of at least 1"),
        ({"kernel_size": 4, "padding": "same"}, "odd kernel_size"),
        ({"stride": 2, "padding": "same"}, "stride 1"),
        ({"padding": "full"}, "'full'"),
        ({"activation": "tanh"}, "activation.*'tanh'"),
        ({"pool": "sum"}, "pool.*'sum'"),
        ({"pool": "max", "pool_size": 0}, "pool_size"),
    ],
)
def test_layer_refuses(options, words):
    with pytest.raises(shared.UserError, match=words):
        RCTokenConv1d(**({"in_channels": 4, "out_channels": 2, "kernel_size": 3} | options))


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 4, 2)])
def test_layer_refuses_columns(shape):
    with pytest.raises(shared.UserError, match="RCTokenConv1d: expected"):
        RCTokenConv1d(4, 2, 3)(torch.zeros(shape))
