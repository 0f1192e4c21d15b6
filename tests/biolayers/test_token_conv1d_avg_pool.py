"""Convolution, activation and average pooling of tokens in one op: against the separate steps."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers.layers import TokenConv1d
from biolayers.ops import token_conv1d_avg_pool, token_conv1d_avg_pool_backward
from shared.threads import finest_grain

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}  # of the largest value
STEPS = {None: lambda x: x, "relu": F.relu, "gelu": F.gelu, "exp": torch.exp}


def one_hot(tokens, channels, dtype):
    return (tokens.unsqueeze(1) == torch.arange(channels).unsqueeze(1)).to(dtype)


def example(b, l, out, channels, k, dtype=torch.float64, seed=0):
    """Tokens with some that have no column, weight and bias."""
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, channels + 1, (b, l), generator=rng).to(torch.uint8)
    tokens = torch.where(tokens == channels, 255, tokens)
    weight = torch.randn(out, channels, k, generator=rng, dtype=dtype)
    return tokens, weight, torch.randn(out, generator=rng, dtype=dtype)


def assert_near(ours, exact, tolerance, *, scale=1.0):
    assert ours.shape == exact.shape
    if exact.numel():
        assert (ours - exact).abs().max() <= tolerance * max(scale, exact.abs().max().item())


def compare(tokens, weight, bias, geometry, activation, size, step, last):
    leaves = [p.clone().requires_grad_() for p in (weight, bias)]
    means = token_conv1d_avg_pool(tokens, *leaves, *geometry, activation, size, step, last)
    assert means.is_contiguous()
    if last:
        means = means.transpose(1, 2)
    exact = [p.double().requires_grad_() for p in (weight, bias)]
    y = STEPS[activation](F.conv1d(one_hot(tokens, weight.shape[1], torch.float64), *exact, *geometry))
    theirs = F.avg_pool1d(y, size, step)
    assert_near(means, theirs, TOLERANCE[weight.dtype])
    grad = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1), dtype=weight.dtype)
    steepest = y.detach().abs().max().item() if activation == "exp" and y.numel() else 1.0
    scale = steepest * grad.abs().sum().item() / weight.shape[0] if grad.numel() else 1.0
    ours = torch.autograd.grad(means, leaves, grad)
    for a, b in zip(ours, torch.autograd.grad(theirs, exact, grad.double()), strict=True):
        assert a.dtype == weight.dtype
        assert_near(a, b, TOLERANCE[weight.dtype], scale=scale)


@st.composite
def calls(draw):
    k, size = draw(st.sampled_from((1, 3, 4, 7, 19))), draw(st.sampled_from((1, 2, 3, 10, 17)))
    geometry = draw(st.integers(1, 3)), draw(st.integers(0, 9)), draw(st.integers(1, 3))
    shortest = geometry[2] * (k - 1) + 1 + (size - 1) * geometry[0] - 2 * geometry[1]
    sizes = draw(st.integers(0, 4)), max(1, shortest + draw(st.integers(0, 90))), draw(st.integers(1, 35))
    pooling = size, draw(st.integers(1, 2 * size)), draw(st.booleans())
    return sizes, draw(st.sampled_from((1, 4, 5, 20))), k, geometry, draw(st.sampled_from([*STEPS])), pooling


@settings(max_examples=60, deadline=None)
@given(calls(), st.sampled_from((torch.float32, torch.float64)), st.integers(0, 2**16))
def test_equals_the_separate_steps(call, dtype, seed):
    (b, l, out), channels, k, geometry, activation, pooling = call
    compare(*example(b, l, out, channels, k, dtype, seed), geometry, activation, *pooling)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("sizes", "pooling"),
    [
        ((1, 1, 1, 1, 1), (1, 1, False)),
        ((2, 1500, 16, 4, 4), (10, 10, False)),  # several blocks, and a part
        ((2, 903, 33, 4, 4), (1, 1, True)),
        ((2, 900, 3, 4, 3), (700, 1, False)),  # windows that share nearly everything
        ((2, 900, 17, 4, 3), (898, 898, False)),  # one window
        ((2, 900, 17, 4, 3), (2, 50, True)),  # windows far apart
    ],
)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_awkward_sizes(sizes, pooling, activation, dtype):
    compare(*example(*sizes, dtype), (1, 0, 1), activation, *pooling)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", STEPS)
def test_activations_and_slopes_are_exact_far_out(activation, dtype):
    values = torch.linspace(-12, 12, 200, dtype=torch.float64)
    tokens = torch.zeros(1, 1, dtype=torch.uint8)
    weight = values.to(dtype).view(-1, 1, 1).requires_grad_()
    means = token_conv1d_avg_pool(tokens, weight, activation=activation)
    exact = weight.detach().double().requires_grad_()
    wanted = STEPS[activation](exact.view(1, -1, 1))
    (slopes,) = torch.autograd.grad(wanted.sum(), exact)
    (ours,) = torch.autograd.grad(means.sum(), weight)
    relative = 2e-5 if activation == "gelu" and dtype == torch.float32 else 100 * torch.finfo(dtype).eps
    small = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(means.double(), wanted, rtol=relative, atol=small)
    torch.testing.assert_close(ours.double(), slopes, rtol=relative, atol=small)


@pytest.mark.parametrize("activation", STEPS)
def test_what_is_not_a_number_is_not_lost(activation):
    tokens, weight, bias = example(1, 30, 3, 4, 3)
    bias[1] = float("nan")
    means = token_conv1d_avg_pool(tokens, weight, bias, 1, 0, 1, activation, 4, 4)
    assert means[:, 1].isnan().all()
    assert not means[:, 0::2].isnan().any()


@pytest.mark.parametrize("channels", [4, 20])
def test_the_number_of_threads_changes_no_bit(channels):
    tokens, weight, bias = example(40, 90, 20, channels, 4, torch.float32)
    options, results, threads = (1, 0, 1, "gelu", 3, 3, False), [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with finest_grain():
                means = token_conv1d_avg_pool(tokens, weight, bias, *options)
                found = token_conv1d_avg_pool_backward(tokens, means, weight, bias, *options)
                results.append((means, *found))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("activation", STEPS)
def test_gradients_of_gradients(activation):
    tokens, weight, bias = example(2, 14, 3, 4, 3)

    def means(w, b):
        return token_conv1d_avg_pool(tokens, w, b, 1, 0, 1, activation, 3, 2).sin()

    leaves = weight.requires_grad_(), bias.requires_grad_()
    assert torch.autograd.gradcheck(means, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(means, leaves)


def test_the_numba_kernels_are_chosen_also_by_the_layer():
    tokens, weight, bias = example(2, 20, 3, 4, 3)
    assert token_conv1d_avg_pool.explain(tokens, weight, bias).chosen == "numba"
    grad = torch.ones(2, 3, 18, dtype=torch.float64)
    assert token_conv1d_avg_pool_backward.explain(tokens, grad, weight, bias).chosen == "numba"
    layer = TokenConv1d(4, 3, 3, activation="gelu", pool="avg", pool_size=4)
    assert "TokenConv1dAvgPool" in repr(layer(tokens).grad_fn) or "avg_pool" in repr(layer(tokens).grad_fn)


TOKENS = torch.zeros(2, 9, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((TOKENS.long(), torch.ones(1, 4, 3)), "uint8.*int64"),
        ((TOKENS, torch.ones(1, 4, 3), None, 1, 0, 1, "tanh"), "activation among None, 'relu'.*'tanh'"),
        ((TOKENS, torch.ones(1, 4, 3), None, 1, 0, 1, None, 0), "pool_size of at least 1, received 0"),
        ((TOKENS, torch.ones(1, 4, 3), None, 1, 0, 1, None, 8), "8 positions for windows of 8, received 7"),
    ],
)
@pytest.mark.parametrize("provider", ["numba", "reference"])
def test_errors_name_what_is_wrong(arguments, words, provider):
    with shared.prefer(provider), pytest.raises(shared.UserError, match=words):
        token_conv1d_avg_pool(*arguments)


def test_a_gradient_of_another_call_is_refused():
    with pytest.raises(shared.UserError, match=r"grad \(2, 1, 7\), received \(2, 1, 6\)"):
        token_conv1d_avg_pool_backward(TOKENS, torch.zeros(2, 1, 6), torch.ones(1, 4, 3))
