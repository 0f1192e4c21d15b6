"""Convolution of tokens: against `conv1d` on one-hot columns and the definition, in values and gradients."""

import copy
import gc
import itertools
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers.kernels.numba import memory
from biolayers.kernels.numba import token_conv1d as kernel
from biolayers.layers import TokenConv1d
from biolayers.ops import token_conv1d, token_conv1d_backward
from shared.threads import finest_grain

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}  # of the largest value
UNKNOWN = 4, 14, 15, 255  # N, V, gap, PAD


def one_hot(tokens, channels, dtype):
    return (tokens.unsqueeze(1) == torch.arange(channels).unsqueeze(1)).to(dtype)


def example(b, l, out, channels, k, *geometry, dtype=torch.float64, seed=0):
    """Tokens with every fifth of them unknown, weight, bias and the gradient of the output."""
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, channels, (b, l), generator=rng)
    unknown = torch.tensor(UNKNOWN)[torch.randint(0, 4, (b, l), generator=rng)]
    unknown = torch.where(unknown < channels, 255, unknown)
    tokens = torch.where(torch.rand(b, l, generator=rng) < 0.2, unknown, tokens).to(torch.uint8)
    weight = torch.randn(out, channels, k, generator=rng, dtype=dtype)
    bias = torch.randn(out, generator=rng, dtype=dtype)
    stride, padding, dilation = (*geometry, 1, 0, 1)[:3] if geometry else (1, 0, 1)
    length = (l + 2 * padding - dilation * (k - 1) - 1) // stride + 1
    grad = torch.randn(b, out, length, generator=rng, dtype=dtype)
    return tokens, weight, bias, grad


def assert_near(ours, theirs, *, scale=None):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if theirs.numel():
        bound = TOLERANCE[theirs.dtype] * max(1.0, theirs.abs().max().item(), scale or 0.0)
        assert (ours - theirs).abs().max() <= bound


def compare_with_conv1d(tokens, weight, bias, grad, *geometry):
    """Values, layout and gradients; the sums of the gradients are compared on the scale of their addends."""
    leaves = [p.clone().requires_grad_() for p in (weight, bias)]
    x = one_hot(tokens, weight.shape[1], weight.dtype)
    theirs = F.conv1d(x, *leaves, *geometry)
    ours = token_conv1d(tokens, *leaves, *geometry)
    assert_near(ours, theirs)
    assert ours.is_contiguous()
    for a, b in zip(
        torch.autograd.grad(ours, leaves, grad), torch.autograd.grad(theirs, leaves, grad), strict=True
    ):
        assert_near(a, b, scale=grad.abs().sum((0, 2)).max().item() if grad.numel() else None)
        assert a.is_contiguous()


@st.composite
def calls(draw):
    k = draw(st.integers(1, 12))
    stride, padding, dilation = draw(st.integers(1, 5)), draw(st.integers(0, 9)), draw(st.integers(1, 4))
    shortest = max(1, dilation * (k - 1) + 1 - 2 * padding)
    sizes = draw(st.integers(0, 4)), shortest + draw(st.integers(0, 60)), draw(st.integers(1, 35))
    return sizes, draw(st.sampled_from((1, 2, 4, 20, 25))), k, (stride, padding, dilation)


@settings(max_examples=40, deadline=None)
@given(calls(), st.sampled_from((torch.float32, torch.float64)), st.integers(0, 2**16))
def test_equals_conv1d_on_one_hot(call, dtype, seed):
    (b, l, out), channels, k, geometry = call
    tensors = example(b, l, out, channels, k, *geometry, dtype=dtype, seed=seed)
    compare_with_conv1d(*tensors, *geometry)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("sizes", "geometry"),
    [
        ((1, 1, 1, 1, 1), (1, 0, 1)),
        ((2, kernel.BLOCK + 18, 16, 4, 19), (1, 0, 1)),  # exactly one block, and one position to either side
        ((2, kernel.BLOCK + 17, 17, 4, 19), (1, 0, 1)),
        ((2, kernel.BLOCK + 19, 15, 4, 19), (1, 0, 1)),
        ((3, 2500, 33, 4, 31), (1, 15, 1)),
        ((1, 700, 8, 4, 101), (1, 50, 1)),
        ((2, 300, 40, 25, 2), (1, 1, 1)),
        ((2, 5, 3, 4, 3), (1000, 0, 1)),  # a stride beyond the sequence
        ((2, 3000, 3, 4, 3), (1, 0, 1400)),
        ((2, 3, 3, 4, 4), (1, 400, 1)),  # most outputs see padding only
        ((1, 40, 2, 255, 3), (1, 0, 1)),
    ],
)
def test_awkward_sizes(sizes, geometry, dtype):
    compare_with_conv1d(*example(*sizes, *geometry, dtype=dtype), *geometry)


@pytest.mark.parametrize("group", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("geometry", [(1, 0, 1), (2, 3, 3), (3, 4, 1)])
def test_any_cut_of_the_taps(group, geometry, monkeypatch):
    monkeypatch.setattr(kernel, "choose_group", lambda *args, **kwargs: group)
    compare_with_conv1d(*example(2, 90, 20, 4, 11, *geometry), *geometry)


def test_the_definition():
    tokens, weight, bias, grad = example(2, 9, 3, 4, 3, 2, 1, 2)
    y, grad_weight = bias.reshape(1, -1, 1).expand_as(grad).clone(), torch.zeros_like(weight)
    for b, p, j in itertools.product(range(2), range(grad.shape[2]), range(3)):
        place = 2 * p + 2 * j - 1
        if 0 <= place < 9 and tokens[b, place] < 4:
            c = int(tokens[b, place])
            y[b, :, p] += weight[:, c, j]
            grad_weight[:, c, j] += grad[b, :, p]
    for provider in ("reference", "numba"):
        with shared.prefer(provider):
            assert_near(token_conv1d(tokens, weight, bias, 2, 1, 2), y)
            found = token_conv1d_backward(tokens, grad, 4, 3, 2, 1, 2)
        assert_near(found[0], grad_weight)
        assert_near(found[1], grad.sum((0, 2)))


def test_unknown_tokens_and_padding_add_nothing():
    weight = torch.randn(5, 4, 3)
    for token in UNKNOWN:
        assert not token_conv1d(torch.full((2, 7), token, dtype=torch.uint8), weight, padding=2).any()


def test_one_letter_throughout():
    """Every word has the same code: the longest chain of sums into one row."""
    tokens, *rest = example(2, 400, 16, 4, 19, dtype=torch.float32)
    compare_with_conv1d(torch.zeros_like(tokens), *rest)


def test_the_numba_kernel_is_chosen():
    tokens, weight, bias, grad = example(2, 9, 3, 4, 3)
    assert token_conv1d.explain(tokens, weight, bias).chosen == "numba"
    assert token_conv1d_backward.explain(tokens, grad, 4, 3).chosen == "numba"
    assert token_conv1d.explain(tokens, weight.half(), bias.half()).chosen == "reference"


def test_strided_and_expanded_arguments():
    tokens, weight, bias, grad = example(3, 40, 18, 4, 5, dtype=torch.float32)
    tokens = tokens[:1].expand(3, -1)
    found = token_conv1d(tokens, weight, bias), *token_conv1d_backward(tokens, grad, 4, 5)
    apart = [torch.stack([t, t], -1)[..., 0] for t in (tokens, weight, bias, grad)]
    again = token_conv1d(*apart[:3]), *token_conv1d_backward(apart[0], apart[3], 4, 5)
    turned = token_conv1d(tokens, weight.permute(2, 0, 1).contiguous().permute(1, 2, 0), bias)
    assert torch.equal(turned, found[0])
    assert all(map(torch.equal, found, again))


@pytest.mark.parametrize("sizes", [(5, 1500, 40, 4, 19), (64, 30, 3, 20, 4)])
def test_the_number_of_threads_changes_no_bit(sizes):
    tokens, weight, bias, grad = example(*sizes, dtype=torch.float32)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with finest_grain():
                found = token_conv1d_backward(tokens, grad, *sizes[3:])
                results.append((token_conv1d(tokens, weight, bias), *found))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_float32_gradients_of_long_sums_stay_exact():
    tokens, _, _, grad = example(8, 30_000, 2, 4, 3, dtype=torch.float32)
    found = token_conv1d_backward(tokens, grad, 4, 3)
    exact = token_conv1d_backward(tokens, grad.double(), 4, 3)
    for a, b in zip(found, exact, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_gradients_of_gradients():
    tokens, weight, bias, grad = example(2, 12, 3, 4, 3)
    weight, bias, grad = (t.requires_grad_() for t in (weight, bias, grad))
    assert torch.autograd.gradgradcheck(lambda w, b: token_conv1d(tokens, w, b).sin(), (weight, bias))
    assert torch.autograd.gradgradcheck(lambda g: token_conv1d_backward(tokens, g, 4, 3)[0].sin(), (grad,))


@pytest.mark.parametrize("dims", [(0, None, None), (None, 0, None), (None, 2, 0), (0, 1, 0), (None, None, 0)])
def test_vmap(dims):
    rng = torch.Generator().manual_seed(0)
    shapes = ((2, 12), (3, 4, 5), (3,))
    tokens, weight, bias = (
        torch.randn(*shape[: d or 0], 4, *shape[d or 0 :], generator=rng) if d is not None
        else torch.randn(*shape, generator=rng)
        for shape, d in zip(shapes, dims, strict=True)
    )  # fmt: skip
    tokens = (tokens.abs() * 3).to(torch.uint8)
    parts = [
        token_conv1d(
            *(t if d is None else t.select(d, i) for t, d in zip((tokens, weight, bias), dims, strict=True))
        )
        for i in range(4)
    ]
    mapped = torch.func.vmap(token_conv1d, in_dims=dims)(tokens, weight, bias)
    torch.testing.assert_close(mapped, torch.stack(parts))


@pytest.mark.parametrize("dims", [(0, 0), (None, 2), (1, None)])
def test_vmap_of_the_gradient(dims):
    tokens, _, _, grad = example(2 * 3, 12, 3, 4, 5, dtype=torch.float32)
    tokens, grad = tokens.reshape(3, 2, 12), grad.reshape(3, 2, 3, 8)
    args = [t[0] if d is None else t.movedim(0, d) for t, d in zip((tokens, grad), dims, strict=True)]
    mapped = torch.func.vmap(lambda t, g: token_conv1d_backward(t, g, 4, 5), in_dims=dims)(*args)
    for i in range(3):
        one = token_conv1d_backward(
            *(t if d is None else t.select(d, i) for t, d in zip(args, dims, strict=True)), 4, 5
        )
        for a, b in zip(mapped, one, strict=True):
            torch.testing.assert_close(a[i], b)


# memory of large outputs


def large(value=None):
    tensor = memory.fresh(torch.empty(0), 3, memory._LARGE // 4)
    return tensor if value is None else tensor.fill_(value)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch's own memory is used")
def test_memory_comes_back_only_when_its_tensor_is_dead():
    memory._idle.clear()
    first = large(1.0)
    view, place = first[1, 5:9], first.data_ptr()
    del first
    gc.collect()
    other = large(2.0)
    assert other.data_ptr() != place
    assert torch.equal(view, torch.ones(4))
    del view
    gc.collect()
    assert large().data_ptr() == place
    kept = [large() for _ in range(2 + memory._KEEP // (3 * memory._LARGE))]
    del kept, other
    gc.collect()
    assert sum(map(len, memory._idle)) <= memory._KEEP
    memory._idle.clear()


def test_no_element_of_a_large_output_is_left_unwritten():
    tokens, weight, bias, _ = example(33, 2100, 41, 4, 6, dtype=torch.float32)
    length = 2095
    poison = memory.fresh(weight, 33, 41, length).fill_(torch.nan)
    del poison
    gc.collect()
    ours = token_conv1d(tokens, weight, bias)
    assert_near(ours, F.conv1d(one_hot(tokens, 4, torch.float32), weight, bias))


# errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(2, 9, dtype=torch.int64), torch.ones(1, 4, 3)), "uint8.*int64.*Alphabet"),
        ((torch.zeros(9, dtype=torch.uint8), torch.ones(1, 4, 3)), r"\(b, l\).*\(9,\)"),
        ((torch.zeros(2, 9, dtype=torch.uint8), torch.ones(4, 3)), r"weight \(out, channels, k\).*\(4, 3\)"),
        ((torch.zeros(2, 9, dtype=torch.uint8), torch.ones(2, 4, 3), torch.ones(1)), r"bias \(2,\).*\(1,\)"),
        ((torch.zeros(2, 9, dtype=torch.uint8), torch.ones(2, 4, 12)), "at least 12 tokens.*received 9"),
        ((torch.zeros(2, 9, dtype=torch.uint8), torch.ones(2, 4, 0)), "k of at least 1, received 0"),
        ((torch.zeros(2, 9, dtype=torch.uint8), torch.ones(2, 4, 2), None, 0), "stride of at least 1"),
        ((torch.zeros(2, 9, dtype=torch.uint8), torch.ones(2, 4, 2), None, 1, -1), "padding of at least 0"),
    ],
)
@pytest.mark.parametrize("provider", ["numba", "reference"])
def test_errors_name_what_is_wrong(arguments, words, provider):
    with shared.prefer(provider), pytest.raises(shared.UserError, match=words):
        token_conv1d(*arguments)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 8), (2, 2, 8)])
@pytest.mark.parametrize("provider", ["numba", "reference"])
def test_a_gradient_of_another_shape_is_refused(shape, provider):
    with shared.prefer(provider), pytest.raises(shared.UserError, match="expected grad"):
        token_conv1d_backward(torch.zeros(2, 9, dtype=torch.uint8), torch.ones(shape), 4, 3)


# the layer


@pytest.mark.parametrize("padding", [0, 3, "same", "valid"])
@pytest.mark.parametrize("k", [1, 4, 5])
def test_layer_equals_conv1d(k, padding):
    peer = torch.nn.Conv1d(4, 7, k, padding=padding, dilation=3)
    layer = TokenConv1d(4, 7, k, padding=padding, dilation=3)
    layer.load_state_dict(peer.state_dict())
    tokens, *_ = example(2, 20, 7, 4, k)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same' with even kernel lengths")
        theirs = peer(one_hot(tokens, 4, torch.float32))
    torch.testing.assert_close(layer(tokens), theirs)
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager", fullgraph=True)(tokens), theirs)


def test_layer_starts_as_conv1d_does():
    torch.manual_seed(1)
    ours = TokenConv1d(4, 7, 5)
    torch.manual_seed(1)
    theirs = torch.nn.Conv1d(4, 7, 5)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert TokenConv1d(4, 7, 5, bias=False).bias is None


def test_layer_survives_copies():
    layer = TokenConv1d(4, 7, 5, padding="same").double()
    tokens, *_ = example(2, 20, 7, 4, 5)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(tokens), layer(tokens))
    assert repr(layer) == "TokenConv1d(4, 7, kernel_size=5, stride=1, padding='same')"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kernel_size": 0}, "kernel_size of at least 1"),
        ({"padding": "same", "stride": 2}, "stride 1"),
        ({"padding": "full"}, "'full'"),
        ({"padding": -1}, "-1"),
    ],
)
def test_layer_refuses(arguments, words):
    with pytest.raises(shared.UserError, match=words):
        TokenConv1d(**({"in_channels": 4, "out_channels": 2, "kernel_size": 3} | arguments))


NARROW = """
import llvmlite.binding
features = llvmlite.binding.get_host_cpu_features()
features.update((name, False) for name in features if name.startswith("avx512"))
llvmlite.binding.get_host_cpu_features = lambda: features
import torch
from biolayers.kernels.numba import simd
from biolayers.ops import token_conv1d, token_conv1d_backward
import shared
assert simd.LINE_BYTES == 32
tokens = torch.randint(0, 5, (2, 70), dtype=torch.uint8)
weight, grad = torch.randn(19, 4, 6, dtype=torch.float64), torch.randn(2, 19, 65, dtype=torch.float64)
found = token_conv1d(tokens, weight), *token_conv1d_backward(tokens, grad, 4, 6)
with shared.prefer("reference"):
    exact = token_conv1d(tokens, weight), *token_conv1d_backward(tokens, grad, 4, 6)
for a, b in zip(found, exact):
    torch.testing.assert_close(a, b)
"""


def test_lines_of_another_width(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", NARROW], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
