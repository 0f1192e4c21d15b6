"""The ProfileHMM layer: modes, columns in place of tokens, training, and the way back to a profile."""

import copy
import math

import pytest
import torch
from hmm_paths import log_sum, paths

import shared
from biolayers import DNA, PAD, PROTEIN
from biolayers.kernels.numba.profiles.tables import tables
from biolayers.layers import ProfileHMM
from biolayers.profiles.profile import ProfileHMM as Profile

SITE = Profile.from_alignment(["TATAAT"] * 6 + ["TACAAT", "TA-AAT", "TATGAT"], DNA, name="site")


def layer(**options):
    return ProfileHMM(SITE, dtype=torch.float64, **options)


@pytest.mark.parametrize("mode", ["local", "glocal"])
@pytest.mark.parametrize("multihit", [True, False])
def test_a_score_is_the_sum_over_paths(mode, multihit):
    small = Profile.from_alignment(["TAT", "TAT", "T-T"], DNA)
    model = ProfileHMM(small, mode=mode, multihit=multihit, dtype=torch.float64)
    tokens = DNA.tokens(["GTATC", "NTTAC"])[:, :4]
    *parameters, special = model.parameters_for(torch.tensor([4, 4]))
    for row, score, outside in zip(tokens, model(tokens), special, strict=True):
        found = paths(row.tolist(), *(p.tolist() for p in parameters[:5]), outside.tolist())
        null = 4 * math.log(4 / 5) - math.log(5)
        assert score.item() == pytest.approx((log_sum(p.score for p in found) - null) / math.log(2))


def test_local_entry_is_a_distribution_over_fragments():
    *_, entry, exit, _ = layer().parameters_for(torch.tensor([9]))
    ends = torch.arange(len(SITE), 0, -1)
    assert (entry.exp() * ends).sum().item() == pytest.approx(1)
    assert not exit.any()


def test_glocal_entry_is_a_distribution_over_first_nodes():
    model = layer(mode="glocal")
    _, _, steps, entry, exit, _ = model.parameters_for(torch.tensor([9]))
    skipped = model.entry.log_softmax(-1)[1] + steps[:, 6].sum()  # all nodes by deletes
    assert (entry.exp().sum() + skipped.exp()).item() == pytest.approx(1)
    assert exit.tolist() == [-math.inf] * 5 + [0.0]


@pytest.mark.parametrize("score", ["forward", "viterbi"])
@pytest.mark.parametrize("mode", ["local", "glocal"])
def test_columns_give_what_tokens_give(mode, score):
    model, tokens = layer(mode=mode, score=score), DNA.tokens(["GGTATAATGG", "ACNTACAATC", "CCCCCCCCCC"])
    columns = DNA.one_hot(tokens, dtype=torch.float64)
    torch.testing.assert_close(model(columns), model(tokens))
    columns.requires_grad_()
    (slopes,) = torch.autograd.grad(model(columns)[0], columns)
    assert slopes[0, :, 2:8].argmax(0).tolist() == tokens[0, 2:8].tolist()  # the site's own letters raise it


def test_padding_and_lengths():
    model = layer()
    tokens = DNA.tokens(["GGTATAATGG", "ACTATAAT--"])
    tokens[1, 8:] = PAD
    alone = model(tokens[1:, :8])
    torch.testing.assert_close(model(tokens)[1:], alone)
    torch.testing.assert_close(model(tokens, torch.tensor([10, 8]))[1:], alone)
    assert model(tokens[:0]).shape == (0,)
    assert model(tokens[:, :0]).tolist() == [-math.inf] * 2


def test_all_unknown_scores_as_background():
    unknown = torch.full((1, 20), DNA.unknown_token, dtype=torch.uint8)
    assert -20 < layer()(unknown).item() < 0


def test_gradients_reach_every_parameter():
    tokens = DNA.tokens(["GGTATCAATGG", "ACTAATGGTAC"])
    for mode in ("local", "glocal"):
        model = layer(mode=mode)
        model(tokens).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
    best = layer(score="viterbi")
    best(tokens).sum().backward()
    assert best.match.grad.any()


def test_a_loss_teaches_a_random_profile():
    torch.manual_seed(0)
    model = ProfileHMM(6, DNA, mode="glocal")
    texts = ["CG" * i + "TATAAT" + "GC" * (4 - i) for i in range(5)]
    tokens = DNA.tokens(texts)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    for _ in range(25):
        optimizer.zero_grad()
        (-model(tokens).mean()).backward()
        optimizer.step()
    assert model(tokens).min() > 3
    assert [hit.states for found in model.hits(tokens) for hit in found] == ["MMMMMM"] * 5
    assert model.to_profile().consensus.upper() in {text[i : i + 6] for text in texts for i in range(9)}


def test_the_posterior_agrees_with_the_hits():
    model, tokens = layer(), DNA.tokens(["GGGGTATAATGGGG"])
    (hit,) = model.hits(tokens)[0]
    inside = model.posterior(tokens)[0, :, 3:].sum(-1)
    assert (inside[hit.start : hit.end] > 0.5).all()
    assert hit.states == "MMMMMM"


def test_back_to_a_profile(tmp_path):
    again = layer().to_profile()
    torch.testing.assert_close(again.match, SITE.match)
    torch.testing.assert_close(again.transitions, SITE.transitions)
    again.save(tmp_path / "site.hmm")
    tokens = DNA.tokens(["GGTATAATGG"])
    read = ProfileHMM(Profile.read(tmp_path / "site.hmm"), dtype=torch.float64)
    torch.testing.assert_close(read(tokens), layer()(tokens), atol=1e-3, rtol=0)


def test_layer_survives_copies_and_compilation():
    model, tokens = ProfileHMM(SITE), DNA.tokens(["GGTATAATGG", "ACTATAATGC"])
    torch.testing.assert_close(copy.deepcopy(model)(tokens), model(tokens))
    fresh = ProfileHMM(len(SITE), DNA)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(tokens), model(tokens))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens), model(tokens))
    assert repr(model) == "ProfileHMM(6 nodes, DNA, local, multihit=True, score=forward)"


@pytest.mark.parametrize(("mode", "dtype"), [("local", torch.float32), ("glocal", torch.float64)])
def test_long_profiles_need_no_reference(mode, dtype):
    model = ProfileHMM(300, PROTEIN, mode=mode)
    assert tables(dtype, *model.parameters_for(torch.tensor([400]))[:-1]).is_fit


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((SITE,), {"mode": "global"}, "'global'"),
        ((SITE,), {"score": "sum"}, "'sum'"),
        ((5,), {}, "an alphabet"),
        ((0, DNA), {}, "at least one node"),
        ((SITE, __import__("biolayers").PROTEIN), {}, "profile's alphabet"),
    ],
)
def test_layer_refuses(arguments, options, words):
    with pytest.raises(shared.UserError, match=words):
        ProfileHMM(*arguments, **options)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (torch.zeros(2, 9, dtype=torch.int64), "uint8.*int64.*DNA.tokens"),
        (torch.zeros(9, dtype=torch.uint8), r"\(9,\)"),
        (torch.zeros(2, 5, 9), r"columns \(b, 4, l\)"),
    ],
)
def test_layer_refuses_other_input(tokens, words):
    with pytest.raises(shared.UserError, match=words):
        ProfileHMM(SITE)(tokens)
