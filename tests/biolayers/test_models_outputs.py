"""What single models promise: the other strand, causality, profiles, residues."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biolayers import DNA, PROTEIN
from biolayers.models import CARP, BPNet, DanQ, RCHyena, bpnet_loss, pretraining_loss
from shared.errors import UserError

sequences = st.text("ACGTN", min_size=1, max_size=40)


@settings(max_examples=6, deadline=None)
@given(sequences)
def test_the_language_model_reads_both_strands_alike(text):
    torch.manual_seed(len(text))
    model, tokens = RCHyena(width=6, layers=2).double(), DNA.tokens([text])
    other = DNA.reverse_complement(tokens)
    torch.testing.assert_close(model(other), model(tokens).flip(1, 2))
    classifier = RCHyena(width=6, layers=1, classes=2).double()
    torch.testing.assert_close(classifier(other), classifier(tokens))


def test_a_masked_model_sees_both_sides_and_a_causal_one_only_what_was_before():
    tokens = torch.randint(0, 4, (1, 30)).to(torch.uint8)
    changed = tokens.clone()
    changed[0, 20] = 3 - changed[0, 20]
    for objective, before in (("masked", True), ("causal", False)):
        model = RCHyena(width=6, layers=2, objective=objective).double()
        moved = (model(tokens) - model(changed)).abs().amax((0, 2)) > 1e-12
        assert moved[20:].all()
        assert moved[:20].any() == before


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_pre_training_learns_a_sequence_that_repeats(objective):
    torch.manual_seed(0)
    tokens = DNA.tokens(["ACGTTGCAGA" * 4] * 8)
    model = RCHyena(width=16, layers=1, objective=objective)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    rng = torch.Generator().manual_seed(0)
    for _ in range(25):
        optimizer.zero_grad()
        pretraining_loss(model, tokens, generator=rng).backward()
        optimizer.step()
    assert pretraining_loss(model, tokens, generator=rng) < 0.5 * math.log(4)


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_nothing_to_predict_is_no_loss(objective):
    model = RCHyena(width=6, layers=1, objective=objective)
    loss = pretraining_loss(model, torch.full((2, 10), 4, dtype=torch.uint8), share=1.0)
    loss.backward()
    assert loss == 0
    assert not model.letter.weight.grad.any()


def test_pre_training_takes_what_it_should():
    tokens = torch.zeros(1, 10, dtype=torch.uint8)
    with pytest.raises(UserError, match="received a classifier"):
        pretraining_loss(RCHyena(width=6, layers=1, classes=2), tokens)
    with pytest.raises(UserError, match="share"):
        pretraining_loss(RCHyena(width=6, layers=1), tokens, share=0)
    with pytest.raises(UserError, match="uint8"):
        pretraining_loss(RCHyena(width=6, layers=1), tokens.long())


def test_profiles_have_the_length_of_the_sequence_and_reach_as_far_as_the_tower():
    torch.manual_seed(0)
    model = BPNet(tasks=3, filters=4, layers=3, kernel_size=5, profile_kernel_size=7).double()
    tokens = torch.randint(0, 4, (2, 101)).to(torch.uint8)
    profile, counts = model(tokens)
    assert profile.shape == (2, 6, 101)
    assert counts.shape == (2, 6)
    changed = tokens.clone()
    changed[:, 50] = 3 - changed[:, 50]
    moved = ((model(changed)[0] - profile).abs().amax((0, 1)) > 1e-12).nonzero().flatten()
    reach = 2 + (2 + 4 + 8) + 3  # first convolution, dilations, profile
    assert moved.min() >= 50 - reach
    assert moved.max() <= 50 + reach


def test_the_profile_loss_is_that_of_torch_distributions():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 9, generator=rng, dtype=torch.float64)
    reads = torch.randint(0, 5, (3, 2, 9), generator=rng).double()
    log_counts = torch.randn(3, 2, generator=rng, dtype=torch.float64)
    expected = 0.0
    for i in range(3):
        for j in range(2):
            total = int(reads[i, j].sum())
            law = torch.distributions.Multinomial(total, logits=logits[i, j])
            expected += -law.log_prob(reads[i, j]) + 0.7 * (log_counts[i, j] - math.log1p(total)) ** 2
    torch.testing.assert_close(bpnet_loss(logits, log_counts, reads, count_weight=0.7), expected / 6)
    assert bpnet_loss(logits, log_counts, torch.zeros_like(reads)).isfinite()
    with pytest.raises(UserError, match="expected profile and reads"):
        bpnet_loss(logits, log_counts, reads[..., 1:])


def test_every_residue_has_logits_and_padding_is_not_counted():
    torch.manual_seed(0)
    model = CARP(classes=3, width=8, layers=2).double().eval()
    tokens = PROTEIN.tokens(["MKTAYIAKQR", "GGGGGHHHHH"])
    assert model(tokens).shape == (2, 10, 3)
    whole = CARP(classes=3, width=8, layers=1, kernel_size=1, per="sequence").double().eval()
    padded = torch.cat((tokens, torch.full((2, 5), 255, dtype=torch.uint8)), 1)
    torch.testing.assert_close(whole(padded), whole(tokens))


def test_the_gates_of_danq_have_one_bias():
    model = DanQ(length=50, classes=1, filters=4, kernel_size=8, units=3, hidden=4)
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    assert frozen == ["lstm.bias_hh_l0", "lstm.bias_hh_l0_reverse"]
    assert not any(weight.any() for weight in model.parameters() if not weight.requires_grad)
