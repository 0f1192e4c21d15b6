"""Embedding, attention pooling, dilated tower, protein heads: against their definitions, and at the edges."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import shared
from biolayers.alphabet import DNA, PAD, PROTEIN
from biolayers.layers import (
    AttentionPool,
    ContactMapHead,
    DilatedResidualTower,
    PerResidueHead,
    RCBatchNorm1d,
    RCConv1d,
    RCDropout,
    TokenEmbedding,
    average_product_correction,
)

# embedding


@pytest.mark.parametrize("options", [
    {},
    {"ambiguous": "spread", "positions": "sinusoidal"},
    {"ambiguous": "own", "positions": "learned", "max_length": 40, "channels_last": True},
    {"alphabet": PROTEIN, "ambiguous": "spread"},
])  # fmt: skip
def test_embedding_takes_columns(options):
    layer = TokenEmbedding(6, dtype=torch.float64, **options)
    alphabet, own = layer.alphabet, layer.ambiguous == "own"
    tokens = torch.randint(0, len(alphabet) + 1, (3, 40)).to(torch.uint8)
    tokens[:, -3:] = PAD
    columns = alphabet.one_hot(tokens, spread=layer.ambiguous == "spread", dtype=torch.float64)
    if own:  # one column for each letter
        columns = (tokens.unsqueeze(1) == torch.arange(len(alphabet)).unsqueeze(1)).double()
    torch.testing.assert_close(layer(tokens), layer(columns))
    assert layer(tokens).shape == ((3, 40, 6) if layer.channels_last else (3, 6, 40))
    if own:
        torch.testing.assert_close(layer(tokens % 4), layer(DNA.one_hot(tokens % 4, dtype=torch.float64)))


def test_embedding_of_each_letter():
    tokens = torch.cat((DNA.tokens("ACGTNR-"), torch.tensor([200, PAD], dtype=torch.uint8))).unsqueeze(0)
    zero, spread, own = (
        TokenEmbedding(2, ambiguous=a, channels_last=True) for a in ("zero", "spread", "own")
    )
    for layer in (zero, spread, own):
        y, w = layer(tokens)[0], layer.weight
        torch.testing.assert_close(y[:4], w[:4])
        assert not y[-2:].any()
    assert not zero(tokens)[0, 4:].any()
    y, w = spread(tokens)[0], spread.weight
    torch.testing.assert_close(y[4:7], torch.stack((w.mean(0), (w[0] + w[2]) / 2, torch.zeros(2))))
    torch.testing.assert_close(own(tokens)[0, 4:7], own.weight[[4, 5, 15]])
    assert len(own.weight) == len(DNA)


def test_sinusoids_follow_the_paper():
    layer = TokenEmbedding(5, positions="sinusoidal", dtype=torch.float64)
    y = layer(torch.full((1, 7), PAD, dtype=torch.uint8))[0]
    for place in (0, 3, 6):
        for i in range(5):
            angle = torch.tensor(place / 10_000 ** (i // 2 * 2 / 5), dtype=torch.float64)
            wanted = angle.cos() if i % 2 else angle.sin()
            assert abs(y[i, place] - wanted) < 1e-6  # rates are float32


# attention pooling


@pytest.mark.parametrize("window", [1, 3, 4, 20, None])
@pytest.mark.parametrize("per_channel", [True, False])
def test_attention_pool_is_a_softmax_of_each_window(window, per_channel):
    layer = AttentionPool(5, window=window, per_channel=per_channel)
    nn.init.normal_(layer.weight)
    x, mask = torch.randn(2, 5, 11), torch.rand(2, 11) < 0.7
    mask[0, 3:] = False
    y = layer(x, mask)
    step = window or 11
    for b in range(2):
        for i, start in enumerate(range(0, 11, step)):
            place = torch.arange(start, min(11, start + step))[mask[b, start : start + step]]
            part = x[b][:, place]
            wanted = ((layer.weight @ part).softmax(-1) * part).sum(-1) if len(place) else torch.zeros(5)
            torch.testing.assert_close(y[b, :, i] if window else y[b], wanted)
    torch.testing.assert_close(layer(x, mask[1]), layer(x, mask[1].expand(2, -1)))


def test_attention_pool_starts_between_mean_and_maximum():
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(AttentionPool(5, sharpness=0.0)(x), x.mean(2))
    torch.testing.assert_close(AttentionPool(5, window=4, sharpness=1e4)(x), F.max_pool1d(x, 4))
    torch.testing.assert_close(AttentionPool(5, per_channel=False)(x), x.mean(2))
    assert AttentionPool(5)(torch.randn(0, 5, 4)).shape == (0, 5)
    assert not AttentionPool(5)(torch.randn(2, 5, 0)).any()
    assert AttentionPool(5, window=2)(torch.randn(2, 5, 0)).shape == (2, 5, 0)


def test_what_is_masked_has_no_say():
    layer, mask = AttentionPool(3, window=4), torch.tensor([[True, False, True, True, False, False]])
    x = torch.randn(1, 3, 6, requires_grad=True)
    other = torch.where(mask.unsqueeze(1), x, torch.nan)
    torch.testing.assert_close(layer(other, mask), layer(x, mask))
    grad = torch.autograd.grad(layer(other, mask).square().sum(), x)[0]
    assert grad.isfinite().all()
    assert not grad[..., [1, 4, 5]].any()


# dilated tower


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("norm", [None, nn.BatchNorm1d])
def test_tower_by_hand(padding, norm):
    tower = DilatedResidualTower(4, layers=3, kernel_size=5, padding=padding, norm=norm, activation="gelu")
    x = torch.randn(2, 4, 80)
    y = x
    for conv, dilation in zip(tower.convs, (2, 4, 8), strict=True):
        edge = 2 * dilation
        z = F.conv1d(
            F.pad(y, (edge, edge)) if padding == "same" else y, conv.weight, conv.bias, dilation=dilation
        )
        z = F.gelu(F.batch_norm(z, None, None, training=True) if norm else z)
        y = (y if padding == "same" else y[..., edge:-edge]) + z
    torch.testing.assert_close(tower(x), y)
    assert y.shape[2] == 80 - (2 * tower.reach if padding == "valid" else 0)


def test_tower_sees_no_further_than_its_reach():
    tower, x = DilatedResidualTower(2, layers=3).double(), torch.zeros(1, 2, 61).double().requires_grad_()
    grad = torch.autograd.grad(tower(x)[0, :, 30].sum(), x)[0][0].abs().sum(0)
    seen = grad.nonzero().flatten()
    assert tower.reach == 14
    assert seen.min() >= 30 - 14
    assert seen.max() <= 30 + 14


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_tower_of_both_strands_is_equivariant(padding):
    tower = DilatedResidualTower(
        3, layers=3, padding=padding, norm=RCBatchNorm1d, conv=RCConv1d, dropout=RCDropout(0.2)
    ).double()  # fmt: skip
    x, results = torch.randn(2, 6, 71, dtype=torch.float64), []
    for strand in (x, x.flip(1, 2)):
        torch.manual_seed(5)
        results.append(tower(strand))
    torch.testing.assert_close(results[1], results[0].flip(1, 2))


# protein heads


@pytest.mark.parametrize("hidden", [None, 7])
def test_per_residue_head(hidden):
    head = PerResidueHead(5, 3, hidden=hidden, kernel_size=3).eval()
    x = torch.randn(2, 5, 9)
    first, *rest = [m for m in head.body if isinstance(m, nn.Conv1d)]
    y = F.conv1d(x, first.weight, first.bias, padding=1)
    for conv in rest:
        y = F.conv1d(F.gelu(y), conv.weight, conv.bias)
    torch.testing.assert_close(head(x), y)
    assert F.cross_entropy(head(x), torch.zeros(2, 9, dtype=torch.int64)).isfinite()
    last = PerResidueHead(5, 3, hidden=hidden, kernel_size=3, channels_last=True).eval()
    last.load_state_dict(head.state_dict())
    torch.testing.assert_close(last(x.mT), y.mT)


@pytest.mark.parametrize("apc", [True, False])
def test_contact_map(apc):
    head = ContactMapHead(5, heads=3, head_dim=4, apc=apc, separation=2)
    x = torch.randn(2, 5, 9)
    q, k = (part(x).reshape(2, 3, 4, 9) for part in (head.query, head.key))
    maps = torch.einsum("bhdi,bhdj->bhij", q, k) / 2
    maps = maps + maps.transpose(2, 3)
    if apc:
        maps = torch.stack(
            [torch.stack([m - torch.outer(m.sum(1), m.sum(0)) / m.sum() for m in b]) for b in maps]
        )
    wanted = torch.einsum("bhij,h->bij", maps, head.weigh.weight[0]) + head.weigh.bias
    y, place = head(x), torch.arange(9)
    assert torch.equal(y, y.mT)
    near = (place.unsqueeze(1) - place).abs() < 2
    torch.testing.assert_close(y[:, ~near], wanted[:, ~near], rtol=1e-4, atol=1e-4)
    assert (y[:, near].sigmoid() == 0).all()
    assert F.binary_cross_entropy_with_logits(y, torch.zeros_like(y)).isfinite()
    assert torch.equal(ContactMapHead(5, channels_last=True)(x.mT).isfinite(), torch.ones(2, 9, 9).bool())


def test_a_padded_protein_has_the_contacts_of_the_protein_alone():
    head, x = ContactMapHead(5, heads=3, separation=0), torch.randn(2, 5, 12)
    mask = torch.arange(12) < torch.tensor([[12], [8]])
    y = head(x, mask)
    torch.testing.assert_close(y[1, :8, :8], head(x[1:, :, :8])[0])
    assert (y[1, 8:] == y[1, 8, 8]).all()
    assert (y[1, 8:].sigmoid() == 0).all()


def test_average_product_correction_takes_away_a_product():
    a = torch.rand(4, 6) + 0.1
    torch.testing.assert_close(
        average_product_correction(a.unsqueeze(2) * a.unsqueeze(1)), torch.zeros(4, 6, 6), atol=1e-6, rtol=0
    )
    x = torch.zeros(1, 6, 6, requires_grad=True)
    average_product_correction(x).sum().backward()
    assert x.grad.isfinite().all()
    assert average_product_correction(torch.zeros(2, 3, 0, 0)).shape == (2, 3, 0, 0)


# errors, copies


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: TokenEmbedding(4, ambiguous="mean"), "'mean'"),
        (lambda: TokenEmbedding(4, positions="rotary"), "'rotary'"),
        (lambda: TokenEmbedding(4, positions="learned"), "max_length"),
        (lambda: TokenEmbedding(4)(torch.zeros(2, 9, dtype=torch.int64)), "uint8.*int64"),
        (lambda: TokenEmbedding(4)(torch.zeros(2, 9)), r"columns \(b, 4, l\), received \(2, 9\)"),
        (lambda: TokenEmbedding(4, ambiguous="own")(torch.zeros(2, 5, 9)), r"\(b, 4 or 16, l\)"),
        (lambda: TokenEmbedding(4, positions="learned", max_length=8)(torch.zeros(2, 9).byte()), "at most 8"),
        (lambda: AttentionPool(0), "received 0"),
        (lambda: AttentionPool(3)(torch.zeros(2, 4, 9)), r"\(b, 3, l\)"),
        (lambda: AttentionPool(3)(torch.zeros(2, 3, 9), torch.ones(2, 9)), "mask of bool"),
        (lambda: AttentionPool(3)(torch.zeros(2, 3, 9), torch.ones(2, 8).bool()), "mask of bool"),
        (lambda: DilatedResidualTower(3, kernel_size=4), "odd kernel_size"),
        (lambda: DilatedResidualTower(3, padding="full"), "'full'"),
        (lambda: DilatedResidualTower(3, activation="tanh"), "'tanh'"),
        (lambda: DilatedResidualTower(3, layers=0), "layers of at least 1"),
        (lambda: DilatedResidualTower(3, layers=2, padding="valid")(torch.zeros(1, 3, 12)), "more than 12"),
        (lambda: PerResidueHead(3, 0), "classes 0"),
        (lambda: PerResidueHead(3, 2)(torch.zeros(1, 4, 9)), r"\(b, 3, l\)"),
        (lambda: PerResidueHead(3, 2, channels_last=True)(torch.zeros(1, 3, 9)), r"\(b, l, 3\)"),
        (lambda: ContactMapHead(3, separation=-1), "separation"),
        (lambda: ContactMapHead(3, heads=2).from_maps(torch.zeros(1, 3, 4, 4)), r"maps \(b, 2, l, l\)"),
        (lambda: ContactMapHead(3)(torch.zeros(1, 3, 4), torch.ones(1, 4)), "mask of bool"),
    ],
)
def test_errors_name_what_is_wrong(call, words):
    with pytest.raises(shared.UserError, match=words):
        call()


def test_layers_survive_copies():
    layers = (
        TokenEmbedding(4, ambiguous="own"),
        AttentionPool(4, window=3),
        DilatedResidualTower(4, layers=2),
        PerResidueHead(4, 2, hidden=3),
        ContactMapHead(4, separation=2),
    )
    for layer in layers:
        tokens = torch.randint(0, 16, (2, 20)).byte()
        given = tokens if isinstance(layer, TokenEmbedding) else torch.randn(2, 4, 20)
        again = pickle.loads(pickle.dumps(layer.eval()))
        assert torch.equal(again(given), layer(given))
        assert repr(again) == repr(layer)
        assert repr(layer).startswith(f"{type(layer).__name__}(")
