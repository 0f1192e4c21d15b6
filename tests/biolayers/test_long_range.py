"""Long convolution and selective scan: against their definitions as loops, in values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers.ops import (
    long_conv,
    long_conv_fft,
    long_conv_kernel_grad,
    selective_scan,
    selective_scan_backward,
)
from shared.threads import finest_grain

TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}


def assert_near(ours, theirs, dtype):
    assert ours.shape == theirs.shape
    assert ours.dtype == dtype
    assert (ours - theirs).abs().max() <= TOLERANCE[dtype] * max(1, theirs.abs().max().item())


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# long convolution


def convolved(x, kernel, offset):
    """The definition, tap by tap."""
    (_, _, l), k = x.shape, kernel.shape[1]
    out = torch.zeros_like(x)
    for j in range(k):
        for t in range(l):
            if 0 <= t + offset - j < l:
                out[:, :, t] = out[:, :, t] + kernel[:, j] * x[:, :, t + offset - j]
    return out


@settings(max_examples=25)
@given(st.tuples(*[st.integers(1, n) for n in (3, 3, 12, 30)]), st.data(), st.booleans())
def test_long_conv_equals_its_definition(sizes, data, single):
    b, c, l, k = sizes
    offset = data.draw(st.integers(0, k - 1))
    dtype = torch.float32 if single else torch.float64
    x, kernel, grad = random(b, c, l, dtype=dtype), random(c, k, dtype=dtype, seed=1), random(b, c, l, seed=2)
    exact = [v.double().requires_grad_() for v in (x, kernel)]
    theirs = convolved(*exact, offset)
    gradients = torch.autograd.grad(theirs, exact, grad)
    for provider in ("numba", "reference"):
        with shared.prefer(provider):
            leaves = [v.clone().requires_grad_() for v in (x, kernel)]
            ours = long_conv(*leaves, offset)
            assert_near(ours, theirs, dtype)
            found = torch.autograd.grad(ours, leaves, grad.to(dtype))
        for a, e in zip(found, gradients, strict=True):
            assert_near(a, e, dtype)


@pytest.mark.parametrize(("l", "k", "offset"), [(12, 30, 25), (40, 33, 0), (9, 5, 2), (1, 1, 0)])
def test_transforms_on_any_device_equal_the_definition(l, k, offset):
    for dtype in (torch.float32, torch.float64):
        x, kernel, grad = (
            random(2, 3, l, dtype=dtype),
            random(3, k, dtype=dtype, seed=1),
            random(2, 3, l, seed=2),
        )
        assert_near(
            long_conv_fft.forward(x, kernel, offset), convolved(x.double(), kernel.double(), offset), dtype
        )
        with shared.prefer("reference"):
            wanted = long_conv_kernel_grad(x.double(), grad, k, offset)
        assert_near(long_conv_fft.kernel_grad(x, grad.to(dtype), k, offset), wanted, dtype)
    half = long_conv_fft.forward(x.bfloat16(), kernel.bfloat16(), offset)
    assert half.dtype == torch.bfloat16
    assert long_conv_fft.forward(x[:0], kernel).shape == (0, 3, l)
    assert not long_conv_fft.kernel_grad(x[:0], x[:0], k).any()


def test_long_conv_of_many_channels():
    x, kernel = random(3, 70, 501, dtype=torch.float32), random(70, 1001, dtype=torch.float32, seed=1)
    ours = long_conv(x.transpose(0, 1).contiguous().transpose(0, 1), kernel, 250)
    grouped = torch.nn.functional.conv1d(
        torch.nn.functional.pad(x.double(), (750, 250)), kernel.double().flip(1).unsqueeze(1), groups=70
    )
    assert_near(ours, grouped, torch.float32)
    assert ours.is_contiguous()
    assert long_conv(x[:0], kernel).shape == (0, 70, 501)
    assert not long_conv_kernel_grad(x[:0], x[:0], 9).any()


@pytest.mark.parametrize("c", [5, 16, 48])
def test_threads_change_no_bit_of_a_long_conv(c):
    x, grad = (random(7, c, 65, dtype=torch.float32, seed=i) for i in range(2))
    kernel, results, threads = random(c, 65, dtype=torch.float32, seed=2), [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with finest_grain():
                results.append((long_conv(x, kernel, 9), long_conv_kernel_grad(x, grad, 65, 9)))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_sequences_and_channels_do_not_touch_each_other():
    x, kernel = random(3, 6, 40, dtype=torch.float32), random(6, 40, dtype=torch.float32, seed=1)
    alone = long_conv(x, kernel)
    spoilt = x.clone()
    spoilt[1, 2] = 1e30
    spoilt[0, 3, 20] = float("nan")
    found = long_conv(spoilt, kernel)
    whole = torch.ones(3, 6, dtype=torch.bool)
    whole[1, 2] = whole[0, 3] = False
    assert torch.equal(found[whole], alone[whole])
    assert torch.equal(long_conv(x[1:2], kernel), alone[1:2])
    assert torch.equal(long_conv(x[:, 2:3], kernel[2:3]), alone[:, 2:3])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.ones(2, 3), torch.ones(3, 4)), r"x \(b, c, l\)"),
        ((torch.ones(1, 2, 3), torch.ones(3, 4)), r"kernel \(2, k\).*\(3, 4\)"),
        ((torch.ones(1, 2, 3), torch.ones(2, 4), 4), r"offset in 0\.\.3, received 4"),
        ((torch.ones(1, 2, 3), torch.ones(2, 0)), "one row per channel"),
    ],
)
def test_long_conv_names_what_is_wrong(arguments, words):
    with pytest.raises(shared.UserError, match=words):
        long_conv(*arguments)


# selective scan


def scanned(x, delta, a, b, c):
    """The definition, position by position."""
    state = torch.zeros(len(x), *a.shape, dtype=x.dtype)
    out = []
    for t in range(x.shape[1]):
        taken = (delta[:, t] * x[:, t]).unsqueeze(-1) * b[:, t].unsqueeze(1)
        state = torch.exp(delta[:, t].unsqueeze(-1) * a) * state + taken
        out.append((state * c[:, t].unsqueeze(1)).sum(-1))
    return torch.stack(out, 1)


def scan_example(batch, l, d, n, dtype):
    x, delta, a, b, c = (
        random(*shape, dtype=dtype, seed=i)
        for i, shape in enumerate([(batch, l, d), (batch, l, d), (d, n), (batch, l, n), (batch, l, n)])
    )
    return x, delta.abs(), -a.abs(), b, c


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 33, 17, 3), (3, 64, 16, 2), (2, 97, 5, 5)])
def test_selective_scan_equals_its_definition(sizes, dtype):
    args = scan_example(*sizes, dtype)
    exact = [v.double().requires_grad_() for v in args]
    theirs = scanned(*exact)
    grad = random(*theirs.shape, seed=9)
    gradients = torch.autograd.grad(theirs, exact, grad)
    for provider in ("numba", "reference"):
        with shared.prefer(provider), finest_grain():
            leaves = [v.clone().requires_grad_() for v in args]
            ours = selective_scan(*leaves)
            assert_near(ours, theirs, dtype)
            for a, e in zip(torch.autograd.grad(ours, leaves, grad.to(dtype)), gradients, strict=True):
                assert_near(a, e, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exponential(dtype):
    """One step with delta = 1, x = 0 after a state of one: y is exp(a)."""
    a = torch.cat([torch.linspace(-800, 90, 5000), torch.linspace(-3, 3, 5000)]).to(dtype)[:, None]
    one = torch.ones(1, 2, 1, dtype=dtype)
    x = torch.tensor([1.0, 0.0], dtype=dtype).view(1, 2, 1).expand(1, 2, len(a))
    found = selective_scan(x, torch.ones_like(x), a, one, one)[0, 1].double()
    exact = a[:, 0].double().exp()
    largest = torch.finfo(dtype).max
    here = (exact < largest) & (exact > 2 * torch.finfo(dtype).tiny)
    assert ((found - exact)[here].abs() <= 2 * torch.finfo(dtype).eps * exact[here]).all()
    assert (found[exact <= torch.finfo(dtype).tiny] < 2 * torch.finfo(dtype).tiny).all()
    bad = selective_scan(
        torch.ones_like(x[..., :1]), one, torch.full((1, 1), torch.nan, dtype=dtype), one, one
    )
    assert bad[0, 1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_position_keeps_nothing_of_an_infinite_decay(dtype):
    """exp(delta a) is infinite at the first position alone: values and gradients stay finite."""
    x, delta, a, b, c = scan_example(2, 5, 3, 2, dtype)
    delta = torch.cat([delta[:, :1] + 1e4, delta[:, 1:] / 4], 1)
    args = x, delta, -a, b, c
    results = []
    for provider in ("numba", "reference"):
        with shared.prefer(provider):
            leaves = [v.clone().requires_grad_() for v in args]
            out = selective_scan(*leaves)
            results.append((out.detach(), *torch.autograd.grad(out.sum(), leaves)))
    for ours, theirs in zip(*results, strict=True):
        assert theirs.isfinite().all()
        assert_near(ours, theirs, dtype)


def test_the_kernels_are_chosen_and_threads_change_no_bit():
    args = scan_example(3, 70, 40, 4, torch.float32)
    assert selective_scan.explain(*args).chosen == "numba"
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with finest_grain():
                results.append((selective_scan(*args), *selective_scan_backward(*args, args[0])))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: torch.ones(2, 3)}, r"x \(batch, l, d\)"),
        ({1: torch.ones(2, 4, 1)}, r"delta \(2, 4, 3\).*\(2, 4, 1\)"),
        ({2: torch.ones(2, 2)}, r"a \(3, n\).*\(2, 2\)"),
        ({4: torch.ones(2, 4, 3)}, r"c \(2, 4, 2\).*\(2, 4, 3\)"),
    ],
)
def test_selective_scan_names_what_is_wrong(change, words):
    args = list(scan_example(2, 4, 3, 2, torch.float64))
    for i, value in change.items():
        args[i] = value
    with pytest.raises(shared.UserError, match=words):
        selective_scan(*args)
