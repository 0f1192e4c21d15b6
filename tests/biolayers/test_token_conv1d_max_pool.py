"""Convolution, ReLU and max-pooling of tokens in one op: against the separate steps, with gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers.kernels.numba import token_conv1d_max_pool as kernel
from biolayers.layers import TokenConv1d
from biolayers.ops import token_conv1d_max_pool, token_conv1d_winners, token_conv1d_winners_backward
from shared.threads import finest_grain

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}  # of the largest value


def one_hot(tokens, channels, dtype):
    return (tokens.unsqueeze(1) == torch.arange(channels).unsqueeze(1)).to(dtype)


def example(b, l, out, channels, k, dtype=torch.float64, seed=0):
    """Tokens with some that have no column, weight and bias."""
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, channels + 1, (b, l), generator=rng).to(torch.uint8)
    tokens = torch.where(tokens == channels, 255, tokens)
    weight = torch.randn(out, channels, k, generator=rng, dtype=dtype)
    return tokens, weight, torch.randn(out, generator=rng, dtype=dtype)


def plain(tokens, weight, bias, geometry, relu, size, step):
    x = F.conv1d(one_hot(tokens, weight.shape[1], weight.dtype), weight, bias, *geometry)
    return F.max_pool1d(x.relu() if relu else x, size, step)


def assert_near(ours, theirs, *, scale=1.0):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if theirs.numel():
        bound = TOLERANCE[theirs.dtype] * max(scale, theirs.abs().max().item())
        assert (ours - theirs).abs().max() <= bound


def compare(tokens, weight, bias, geometry, relu, size, step, last):
    leaves = [p.clone().requires_grad_() for p in (weight, bias)]
    values, winners = token_conv1d_max_pool(tokens, *leaves, *geometry, relu, size, step, last)
    assert values.is_contiguous()
    assert winners.is_contiguous()
    assert winners.dtype == (torch.uint8 if size < 256 else torch.int32)
    if last:
        values = values.transpose(1, 2)
    theirs = plain(tokens, *leaves, geometry, relu, size, step)
    assert_near(values, theirs)
    grad = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1), dtype=weight.dtype)
    scale = grad.abs().sum().item() / weight.shape[0] if grad.numel() else 1.0
    ours = torch.autograd.grad(values, leaves, grad)
    for a, b in zip(ours, torch.autograd.grad(theirs, leaves, grad), strict=True):
        assert_near(a, b, scale=scale)


@st.composite
def calls(draw):
    k, size = draw(st.sampled_from((1, 3, 4, 7, 19))), draw(st.sampled_from((1, 2, 3, 10, 17)))
    geometry = draw(st.integers(1, 3)), draw(st.integers(0, 9)), draw(st.integers(1, 3))
    shortest = geometry[2] * (k - 1) + 1 + (size - 1) * geometry[0] - 2 * geometry[1]
    sizes = draw(st.integers(0, 4)), max(1, shortest + draw(st.integers(0, 90))), draw(st.integers(1, 35))
    pooling = size, draw(st.integers(1, 2 * size)), draw(st.booleans())
    return sizes, draw(st.sampled_from((1, 4, 5, 20))), k, geometry, draw(st.booleans()), pooling


@settings(max_examples=40, deadline=None)
@given(calls(), st.sampled_from((torch.float32, torch.float64)), st.integers(0, 2**16))
def test_equals_the_separate_steps(call, dtype, seed):
    (b, l, out), channels, k, geometry, relu, pooling = call
    compare(*example(b, l, out, channels, k, dtype, seed), geometry, relu, *pooling)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("sizes", "geometry", "pooling"),
    [
        ((1, 1, 1, 1, 1), (1, 0, 1), (1, 1, False)),
        ((2, 10 * kernel.BLOCK + 12, 16, 4, 4), (1, 0, 1), (10, 10, False)),  # a block, and part of the next
        ((2, 2 * kernel.BLOCK + 3, 33, 4, 4), (1, 0, 1), (2, 2, True)),
        ((2, 600, 3, 4, 4), (1, 0, 1), (300, 100, False)),  # winners beyond a byte
        ((2, 900, 5, 4, 3), (1, 0, 1), (1, 3, False)),  # several blocks of a gradient
        ((1, 150, 8, 4, 101), (1, 50, 1), (3, 3, False)),  # more lines of sums than stay in registers
        (
            (2, 60, 6, 16, 3),
            (1, 1, 1),
            (2, 2, False),
        ),  # as many letters as a line has lanes, or twice as many
        ((2, 60, 6, 25, 3), (1, 1, 1), (2, 2, True)),
    ],
)
def test_awkward_sizes(sizes, geometry, pooling, dtype):
    compare(*example(*sizes, dtype), geometry, True, *pooling)


@pytest.mark.parametrize("relu", [False, True])
def test_winners_are_the_first_of_equals(relu):
    tokens = torch.tensor([[0, 1, 1, 0, 0, 2, 4, 4, 4]], dtype=torch.uint8)
    weight = torch.tensor([[[0.0], [1.0], [-1.0]]])
    for provider in ("numba", "reference"):
        with shared.prefer(provider):
            values, winners = token_conv1d_max_pool(tokens, weight, None, 1, 0, 1, relu, 3, 3)
        assert values.tolist() == [[[1.0, 0.0, 0.0]]]
        assert winners.tolist() == [[[1, 3, 3] if relu else [1, 0, 0]]]  # zero has no slope under ReLU


def test_all_unknown_tokens_give_the_bias():
    weight, bias = torch.randn(5, 4, 3), torch.randn(5)
    for token in (4, 14, 15, 255):
        tokens = torch.full((2, 12), token, dtype=torch.uint8)
        values, _ = token_conv1d_max_pool(tokens, weight, bias, pool_size=2, pool_stride=2)
        torch.testing.assert_close(values, bias[None, :, None].expand(2, 5, 5))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_lost(bad):
    tokens, weight, bias = example(2, 30, 3, 4, 3)
    weight[1, 2, 1] = bad
    with shared.prefer("reference"):
        theirs = token_conv1d_max_pool(tokens, weight, bias, pool_size=4, pool_stride=4)
    ours = token_conv1d_max_pool(tokens, weight, bias, pool_size=4, pool_stride=4)
    torch.testing.assert_close(ours, theirs, equal_nan=True)
    assert not ours[0].isfinite().all()


@pytest.mark.parametrize("channels", [4, 20])
def test_the_number_of_threads_changes_no_bit(channels):
    tokens, weight, bias = example(40, 90, 20, channels, 4, torch.float32)
    options, results, threads = (1, 0, 1, 3, 3, False), [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with finest_grain():
                values, winners = token_conv1d_max_pool(
                    tokens, weight, bias, *options[:3], True, *options[3:]
                )
                found = token_conv1d_winners_backward(tokens, winners, values, channels, 4, *options)
                results.append((values, winners, *found))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_float32_gradients_of_long_sums_stay_exact():
    tokens, weight, _ = example(8, 30_000, 1, 4, 4, torch.float32)
    _, winners = token_conv1d_max_pool(tokens, weight, pool_size=2, pool_stride=2)
    grad = torch.rand(winners.shape)
    found = token_conv1d_winners_backward(tokens, winners, grad, 4, 4, 1, 0, 1, 2, 2)
    exact = token_conv1d_winners_backward(tokens, winners, grad.double(), 4, 4, 1, 0, 1, 2, 2)
    for a, b in zip(found, exact, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_gradients_of_gradients():
    tokens, weight, bias = example(2, 14, 3, 4, 3)

    def values(w, b):
        return token_conv1d_max_pool(tokens, w, b, 1, 0, 1, True, 3, 2)[0].sin()

    leaves = weight.requires_grad_(), bias.requires_grad_()
    assert torch.autograd.gradcheck(values, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(values, leaves)


@pytest.mark.parametrize("dims", [(0, None, None), (None, 0, None), (None, 2, 0), (0, 1, 0)])
@pytest.mark.parametrize("last", [False, True])
def test_vmap(dims, last):
    rng = torch.Generator().manual_seed(0)
    tokens, weight, bias = (
        torch.randn(*shape[: d or 0], *([] if d is None else [4]), *shape[d or 0 :], generator=rng)
        for shape, d in zip(((2, 12), (3, 4, 5), (3,)), dims, strict=True)
    )
    tokens = (tokens.abs() * 3).to(torch.uint8)

    def pooled(*args):
        return token_conv1d_max_pool(*args, 1, 0, 1, True, 3, 3, last)

    parts = [
        pooled(
            *(t if d is None else t.select(d, i) for t, d in zip((tokens, weight, bias), dims, strict=True))
        )
        for i in range(4)
    ]
    mapped = torch.func.vmap(pooled, in_dims=dims)(tokens, weight, bias)
    torch.testing.assert_close(mapped, tuple(map(torch.stack, zip(*parts, strict=True))))


def test_the_numba_kernels_are_chosen():
    tokens, weight, bias = example(2, 20, 3, 4, 3)
    _, winners = token_conv1d_max_pool(tokens, weight, bias)
    assert token_conv1d_max_pool.explain(tokens, weight, bias).chosen == "numba"
    assert token_conv1d_winners.explain(tokens, winners, weight, bias).chosen == "numba"
    grad = torch.ones(winners.shape)
    assert token_conv1d_winners_backward.explain(tokens, winners, grad, 4, 3).chosen == "numba"


# errors

TOKENS = torch.zeros(2, 9, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((TOKENS.long(), torch.ones(1, 4, 3)), "uint8.*int64.*Alphabet"),
        ((TOKENS, torch.ones(1, 4, 12)), "at least 12 tokens.*received 9"),
        ((TOKENS, torch.ones(1, 4, 3), None, 1, 0, 1, False, 0), "pool_size of at least 1, received 0"),
        ((TOKENS, torch.ones(1, 4, 3), None, 1, 0, 1, False, 2, 0), "pool_stride of at least 1"),
        ((TOKENS, torch.ones(1, 4, 3), None, 1, 0, 1, False, 8), "8 positions for windows of 8, received 7"),
    ],
)
@pytest.mark.parametrize("provider", ["numba", "reference"])
def test_errors_name_what_is_wrong(arguments, words, provider):
    with shared.prefer(provider), pytest.raises(shared.UserError, match=words):
        token_conv1d_max_pool(*arguments)


@pytest.mark.parametrize("provider", ["numba", "reference"])
def test_winners_of_another_call_are_refused(provider):
    winners = torch.zeros(2, 1, 6, dtype=torch.uint8)
    with shared.prefer(provider):
        with pytest.raises(shared.UserError, match=r"winners \(2, 1, 7\).*received \(2, 1, 6\)"):
            token_conv1d_winners(TOKENS, winners, torch.ones(1, 4, 3))
        with pytest.raises(shared.UserError, match="one shape"):
            token_conv1d_winners_backward(TOKENS, winners, torch.ones(2, 1, 7), 4, 3)
        with pytest.raises(shared.UserError, match="int64"):
            token_conv1d_winners_backward(TOKENS, torch.zeros(2, 1, 7).long(), torch.ones(2, 1, 7), 4, 3)


# the layer

OPTIONS = [
    {},
    {"activation": "relu", "pool": "max", "pool_size": 3},
    {"activation": "relu", "pool": "max", "pool_size": 3, "channels_last": True},
    {"pool": "max", "pool_size": 4, "pool_stride": 2, "padding": "same", "bias": False},
    {"activation": "exp", "pool": "max", "pool_size": 3},
    {"activation": "gelu", "pool": "max", "pool_size": 2},
    {"activation": "gelu", "pool": "avg", "pool_size": 3, "channels_last": True},
    {"activation": "exp", "channels_last": True},
    {"pool": "avg", "pool_size": 3, "pool_stride": 1, "padding": 2},
]


def peer_of(layer):
    """What the layer stands for, on columns, from `torch.nn` alone."""
    steps = [torch.nn.Conv1d(4, 5, 4, padding=layer.padding, bias=layer.bias is not None)]
    if layer.activation == "exp":
        steps.append(torch.nn.Identity())
        steps[-1].register_forward_hook(lambda module, args, x: x.exp())
    elif layer.activation:
        steps.append({"relu": torch.nn.ReLU, "gelu": torch.nn.GELU}[layer.activation]())
    if layer.pool:
        pool = torch.nn.MaxPool1d if layer.pool == "max" else torch.nn.AvgPool1d
        steps.append(pool(layer.pool_size, layer.pool_stride))
    steps[0].load_state_dict(layer.state_dict())
    return torch.nn.Sequential(*steps)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())) or "plain")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_layer_equals_torch_for_tokens_and_for_columns(options):
    layer = TokenConv1d(4, 5, 4, **options)
    peer = peer_of(layer)
    tokens, *_ = example(3, 21, 5, 4, 4)
    x = one_hot(tokens, 4, torch.float32).requires_grad_()
    theirs = peer(x)
    theirs = theirs.transpose(1, 2) if layer.channels_last else theirs
    grad = torch.randn(theirs.shape)
    wanted = torch.autograd.grad(theirs, (*peer.parameters(), x), grad)
    ours, of_columns = layer(tokens), layer(x)
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(of_columns, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, (*layer.parameters(),), grad), wanted[:-1])
    torch.testing.assert_close(torch.autograd.grad(of_columns, (*layer.parameters(), x), grad), wanted)


def test_layer_compiles_and_prints():
    layer = TokenConv1d(4, 5, 4, activation="relu", pool="max", pool_size=3, pool_stride=2)
    tokens, *_ = example(3, 21, 5, 4, 4)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens), layer(tokens))
    compiled(tokens).sum().backward()
    grads = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(tokens).sum().backward()
    torch.testing.assert_close([p.grad for p in layer.parameters()], grads)
    shown = "kernel_size=4, stride=1, activation='relu', pool='max', pool_size=3, pool_stride=2)"
    assert repr(layer) == f"TokenConv1d(4, 5, {shown}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "tanh"}, "activation among None, 'relu', 'gelu', 'exp', received 'tanh'"),
        ({"pool": "sum"}, "pool among None, 'max', 'avg', received 'sum'"),
        ({"pool_size": 3}, 'pool="max" or pool="avg" with pool_size=3'),
        ({"pool": "max", "pool_size": 0}, "pool_size of at least 1"),
        ({"pool": "max", "pool_stride": 0}, "pool_stride of at least 1"),
    ],
)
def test_layer_refuses(options, words):
    with pytest.raises(shared.UserError, match=words):
        TokenConv1d(4, 2, 3, **options)


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_layer_refuses_sequences_without_a_window(pool):
    layer = TokenConv1d(4, 2, 3, pool=pool, pool_size=8)
    for argument in (TOKENS, one_hot(TOKENS, 4, torch.float32)):
        with pytest.raises(shared.UserError, match="received 7"):
            layer(argument)
