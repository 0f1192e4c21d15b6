"""The ops `motif_scan` and `motif_best` against the definition, and the layer on top of them."""

import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers import DNA
from biolayers.layers import MotifScan
from biolayers.motifs.bank import MotifBank
from biolayers.motifs.motif import Motif
from biolayers.ops import motif_best, motif_scan
from biolayers.ops.motif_scan import NO_SITE
from shared.errors import UserError


def example(b, l, widths, rows=4, *, dtype=torch.float64, seed=0):
    """Weights on a grid, so that sums are exact in whatever order; a few tokens without a row."""
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, rows, (b, l), generator=rng)
    tokens = torch.where(torch.rand(b, l, generator=rng) < 0.04, 255, tokens).to(torch.uint8)
    weight = (torch.randint(-64, 64, (len(widths), 4, max(widths)), generator=rng) / 16).to(dtype)
    letters = torch.cat([torch.eye(4), torch.full((rows - 4, 4), 0.25)]).to(dtype)
    return tokens, weight, torch.tensor(widths), letters


def by_definition(tokens, weight, widths, letters, both):
    """Scores (b, m, strands, l), window by window."""
    (b, l), m = tokens.shape, len(weight)
    out = torch.full((b, m, 1 + both, l), NO_SITE, dtype=weight.dtype)
    for i, k, p in itertools.product(range(b), range(m), range(l)):
        width = int(widths[k])
        window = tokens[i, p : p + width].long()
        if len(window) == width and (window < len(letters)).all():
            columns = letters[window].T  # (4, width)
            out[i, k, 0, p] = (weight[k, :, :width] * columns).sum()
            if both:
                out[i, k, 1, p] = (weight[k, :, :width] * columns.flip(0, 1)).sum()
    return out


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 3), st.integers(0, 40), st.lists(st.integers(1, 12), min_size=1, max_size=20),
    st.sampled_from((4, 6)), st.booleans(), st.sampled_from((torch.float32, torch.float64)),
    st.integers(0, 99),
)  # fmt: skip
def test_equals_the_definition(b, l, widths, rows, both, dtype, seed):
    args = example(b, l, widths[:3] if l > 20 else widths, rows, dtype=dtype, seed=seed)
    exact = by_definition(*args, both)
    flat = torch.nn.functional.pad(exact.transpose(2, 3).flatten(2), (0, 1), value=NO_SITE)
    for provider in ("numba", "reference"):
        with shared.prefer(provider):
            scores, (best, place, strand) = motif_scan(*args, both), motif_best(*args, both)
        assert torch.equal(scores, exact)
        assert scores.is_contiguous()
        assert torch.equal(best, flat.amax(2))
        site = torch.where(best == NO_SITE, -(1 + both), flat.argmax(2))
        assert torch.equal(place, site.div(1 + both, rounding_mode="floor"))
        assert torch.equal(strand, torch.where(place < 0, 0, site % (1 + both)))


def test_the_numba_kernels_are_chosen():
    args = example(2, 9, [3])
    assert motif_scan.explain(*args).chosen == motif_best.explain(*args).chosen == "numba"


def test_longer_sequences_and_many_motifs():
    args = example(2, 3000, [5, 9, 14] * 9, dtype=torch.float32)
    with shared.prefer("reference"):
        exact = motif_scan(*args), *motif_best(*args)
    for found, expected in zip((motif_scan(*args), *motif_best(*args)), exact, strict=True):
        assert torch.equal(found, expected)


def test_gradients():
    tokens, weight, widths, letters = example(2, 7, [2, 4])
    weight = (weight + torch.rand_like(weight)).requires_grad_()
    letters = letters.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda w, s: motif_scan(tokens, w, widths, s), (weight, letters))
    assert torch.autograd.gradcheck(lambda w, s: motif_best(tokens, w, widths, s)[0], (weight, letters))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": torch.zeros(2, 5)}, r"tokens \(b, l\) uint8, received \(2, 5\) torch.float32"),
        ({"weight": torch.zeros(0, 4, 3)}, "none of them 0"),
        ({"widths": torch.tensor([3.0])}, r"widths \(1,\) int64"),
        ({"widths": torch.tensor([3, 3])}, r"received \(2,\)"),
        ({"letters": torch.eye(4).double()}, "letters .* of torch.float32, like weight|one floating dtype"),
        ({"letters": torch.eye(5)}, r"letters \(rows, 4\)"),
    ],
)
@pytest.mark.parametrize("provider", ["numba", "reference"])
def test_errors(change, words, provider):
    given = {
        "tokens": torch.zeros(2, 5, dtype=torch.uint8),
        "weight": torch.zeros(1, 4, 3),
        "widths": torch.tensor([3]),
        "letters": torch.eye(4),
    }
    for op in (motif_scan, motif_best):
        with shared.prefer(provider), pytest.raises((UserError, RuntimeError), match=words):
            op(*(given | change).values())


# the layer

BANK = MotifBank([Motif("TATAWAW", name="a"), Motif("GGGCGG", name="b")])


def test_pooling():
    tokens = torch.cat([example(2, 30, [1])[0], torch.full((1, 30), 4, dtype=torch.uint8)])  # the last: all N
    scores = MotifScan(BANK, pool=None)(tokens)
    assert scores.shape == (3, 2, 2, 30)
    best = MotifScan(BANK)(tokens)
    torch.testing.assert_close(best[:2], scores[:2].amax((2, 3)))
    assert not best[2].any()
    soft = MotifScan(BANK, pool="logsumexp", temperature=0.5)(tokens)
    torch.testing.assert_close(soft[:2], 0.5 * torch.logsumexp(scores[:2].flatten(2) / 0.5, 2))
    assert not soft[2].any()
    for pool in ("max", "logsumexp"):
        assert not MotifScan(BANK, pool=pool)(tokens[:, :5]).any()  # shorter than all motifs


@pytest.mark.parametrize("pool", [None, "max", "logsumexp"])
@pytest.mark.parametrize("unknown", ["skip", "zero", "expected"])
def test_columns_give_what_tokens_give(pool, unknown):
    tokens = example(2, 30, [1])[0]
    tokens = torch.where(tokens == 255, 4, tokens)
    layer = MotifScan(BANK, pool=pool, unknown=unknown, trainable=True, dtype=torch.float64)
    columns = DNA.one_hot(tokens, dtype=torch.float64).requires_grad_()
    ours, theirs = layer(tokens), layer(columns)
    torch.testing.assert_close(ours, theirs)
    grads = [torch.autograd.grad(out.clamp(min=-99).sum(), layer.weight)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*grads)
    (found,) = torch.autograd.grad(layer(columns).clamp(min=-99).sum(), columns)
    assert found.isfinite().all()
    assert found.any()


def test_both_strands_see_the_same():
    tokens = example(3, 40, [1])[0]
    layer = MotifScan(BANK, pool="logsumexp")
    turned = DNA.reverse_complement(torch.where(tokens == 255, 4, tokens))
    torch.testing.assert_close(layer(tokens), layer(turned))


def test_training_state_and_copies(tmp_path):
    torch.manual_seed(0)
    layer = MotifScan(BANK, trainable=True, pool="logsumexp")
    tokens = torch.randint(0, 4, (8, 40), dtype=torch.uint8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer(tokens).pow(2).mean()
    before.backward()
    optimizer.step()
    assert layer(tokens).pow(2).mean() < before
    other = MotifScan(BANK)
    assert not other.weight.requires_grad
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(tokens), layer(tokens))
    assert repr(layer) == (
        "MotifScan(2 motifs of up to 7 positions, pool='logsumexp', temperature=1, unknown='skip')"
    )


def test_weights_become_motifs_again():
    found = MotifScan(BANK).to_bank()
    assert found.names == ["a", "b"]
    for ours, theirs in zip(found, BANK, strict=True):
        assert abs(ours.log_odds() - theirs.log_odds()).max() <= 1 / 64


def test_compiled():
    tokens = example(2, 30, [1])[0]
    layer = MotifScan(BANK, pool="logsumexp")
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens), layer(tokens))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pool": "mean"}, "received 'mean'"),
        ({"temperature": 0}, "above 0, received 0"),
        ({"unknown": "?"}, "received '?'"),
        ({"motifs": "missing/file.meme"}, "cannot be read"),
    ],
)
def test_layer_refuses(arguments, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        MotifScan(**({"motifs": BANK} | arguments))


@pytest.mark.parametrize("shape", [(2, 5, 9), (4, 9)])
def test_layer_refuses_other_columns(shape):
    with pytest.raises((UserError, TypeError), match=r"sequences|columns"):
        MotifScan(BANK)(torch.zeros(shape))
