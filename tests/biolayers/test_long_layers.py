"""Layers that see far: their formulas, what they may not see, lengths, masks, copies."""

import copy

import pytest
import torch
from torch import nn

import shared
from biolayers.layers import LongConv, RotaryAttention, SelectiveScan
from biolayers.layers.attention import rotated

CHANNELS_LAST = {LongConv: False, SelectiveScan: True, RotaryAttention: True}


def layer_of(kind, causal, channels=4):
    options = {LongConv: {"length": 12}, SelectiveScan: {"states": 3}, RotaryAttention: {}}[kind]
    if kind is SelectiveScan:
        return kind(channels, **options, bidirectional=not causal).double()
    heads = (2,) if kind is RotaryAttention else ()
    return kind(channels, *heads, causal=causal, **options).double()


def run(layer, x):
    """On (b, l, c), whatever the layer's own layout."""
    if CHANNELS_LAST[type(layer)]:
        return layer(x)
    return layer(x.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("kind", CHANNELS_LAST)
@pytest.mark.parametrize("causal", [True, False])
def test_what_an_output_sees(kind, causal):
    layer, x = layer_of(kind, causal), torch.randn(1, 9, 4).double().requires_grad_()
    (slope,) = torch.autograd.grad(run(layer, x)[0, 4].sum(), x)
    seen = slope[0].abs().amax(1) > 1e-12
    assert seen[:5].all()
    assert seen[5:].any() != causal
    assert (seen[5:].all()) != causal


@pytest.mark.parametrize("kind", CHANNELS_LAST)
def test_layers_learn_and_are_copied(kind):
    layer, x = layer_of(kind, False), torch.randn(3, 1, 4).double()
    assert run(layer, x).shape == (3, 1, 4)
    x = torch.randn(3, 14, 4).double()
    out = run(layer, x)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    assert torch.equal(run(copy.deepcopy(layer), x), out)
    torch.testing.assert_close(run(layer.float(), x.float()), out.float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_long_conv_by_its_formula(causal):
    layer, x = layer_of(LongConv, causal), torch.randn(2, 4, 7).double()
    p, q, v = layer.short(nn.functional.pad(layer.project(x), (2, 0) if causal else (1, 1))).chunk(3, 1)
    kernel, v = layer.kernel(7), v * p
    far = torch.stack(
        [
            sum(kernel[:, t - s + (0 if causal else 6)] * v[:, :, s] for s in range(t + 1 if causal else 7))
            for t in range(7)
        ],
        2,
    )
    torch.testing.assert_close(layer(x), layer.out(q * (far + layer.bias * v)))
    assert kernel.shape == (4, 7 if causal else 13)
    longer = layer.kernel(9)
    torch.testing.assert_close(longer[:, :7] if causal else longer[:, 2:-2], kernel)


def test_selective_scan_by_its_formula():
    layer, x = layer_of(SelectiveScan, True), torch.randn(2, 6, 4).double()
    inner, gate = layer.enter(x).chunk(2, -1)
    u = nn.functional.silu(layer.short(nn.functional.pad(inner.mT, (3, 0)))).mT
    low, b, c = layer.select(u).split([1, 3, 3], -1)
    delta, state, out = nn.functional.softplus(layer.step(low)), torch.zeros(2, 8, 3).double(), []
    for t in range(6):
        kept = torch.exp(delta[:, t, :, None] * -layer.log_rates.exp()) * state
        state = kept + (delta * u)[:, t, :, None] * b[:, t, None]
        out.append((state * c[:, t, None]).sum(-1) + layer.skip * u[:, t])
    torch.testing.assert_close(layer(x), layer.leave(torch.stack(out, 1) * nn.functional.silu(gate)))
    first = nn.functional.softplus(SelectiveScan(64).step.bias)
    assert first.min() >= 0.9e-3
    assert first.max() <= 1.1e-1


def test_both_directions_are_alike():
    layer, x = layer_of(SelectiveScan, False), torch.randn(2, 8, 4).double()
    torch.testing.assert_close(layer(x.flip(1)), layer(x).flip(1))


def test_products_depend_on_distances():
    q, k = torch.randn(6).double(), torch.randn(6).double()
    products = rotated(q.expand(9, 6)) @ rotated(k.expand(9, 6)).T
    for distance in range(-8, 9):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    torch.testing.assert_close(products[0, 0], q @ k)
    assert products[0].std() > 0.1


@pytest.mark.parametrize("causal", [True, False])
def test_a_mask_is_as_if_the_rest_were_not_there(causal):
    layer, x = layer_of(RotaryAttention, causal), torch.randn(3, 8, 4).double()
    mask = torch.arange(8) < torch.tensor([[8], [5], [0]])
    found = layer(x, mask)
    torch.testing.assert_close(found[:1], layer(x[:1]))
    torch.testing.assert_close(found[1:2, :5], layer(x[1:2, :5]))
    torch.testing.assert_close(found[2], layer.leave.bias.expand(8, 4))
    found.sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LongConv(0), "channels of at least 1"),
        (lambda: LongConv(4, width=0), "width of at least 1"),
        (lambda: SelectiveScan(4, states=0), "states of at least 1"),
        (lambda: RotaryAttention(6, 2), "even number of channels for each head"),
        (lambda: RotaryAttention(4, 2, dropout=1.0), "dropout"),
        (lambda: RotaryAttention(4, 2)(torch.ones(2, 3, 4), torch.ones(2, 4) > 0), r"mask \(2, 3\)"),
        (lambda: RotaryAttention(4, 2)(torch.ones(2, 3, 4), torch.ones(2, 3)), "of booleans.*float32"),
    ],
)
def test_layers_name_what_is_wrong(make, words):
    with pytest.raises(shared.UserError, match=words):
        make()
