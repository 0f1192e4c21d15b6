"""Pictures and experiments: what is drawn is what was given, and wrong arguments are named."""

import matplotlib as mpl
import numpy as np
import pytest
import torch

import shared
from biolayers import DNA, PROTEIN
from biolayers.interpret import ablate, ism, marginalize, plot_ism, plot_logo, plot_prediction, space


def drawn(figure):
    """The letters of the first logo as (position, bottom, top), without the empty ones."""
    boxes = [patch.get_path().get_extents() for patch in figure.axes[0].patches]
    return [(round((b.x0 + b.x1) / 2), b.y0, b.y1) for b in boxes if b.height > 1e-9]


def test_letters_are_as_high_as_their_scores():
    scores = torch.zeros(4, 5)
    scores[2, 1], scores[0, 3] = 2.0, -1.0
    figure = plot_logo(scores, start=10, title="a title")
    (one, two) = sorted(drawn(figure))
    assert one[0] == 11
    assert two[0] == 13
    np.testing.assert_allclose(one[1:], (0, 2), atol=0.1)
    np.testing.assert_allclose(two[1:], (-1, 0), atol=0.1)
    assert figure.axes[0].get_title() == "a title"


def test_information_of_probabilities():
    counts = torch.tensor([[8.0, 5, 1], [0, 5, 1], [0, 0, 1], [0, 0, 1]])
    heights = sorted(drawn(plot_logo(counts, information=True)))
    np.testing.assert_allclose([top - low for _, low, top in heights], [2, 0.5, 0.5], atol=0.1)


@pytest.mark.parametrize("length", [1, 7, 30])
def test_pictures_are_written(tmp_path, length):
    tokens = torch.randint(0, 5, (1, length), dtype=torch.uint8)
    tokens[0, 0] = 1
    found = ism(lambda x: torch.stack([x[:, 2].sum(1), x[:, 0].sum(1) ** 2], 1), tokens)
    figures = (
        plot_ism(found[0], tokens[0], output=1, start=5),
        plot_prediction(torch.tensor([0.2, -0.7]), torch.randn(4, length), names=["a", "$x$"]),
        plot_logo(torch.randn(20, min(length, 9)), alphabet=PROTEIN),
    )
    for i, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{i}.png", dpi=50)
        pixels = mpl.image.imread(tmp_path / f"{i}.png")
        assert pixels.std() > 0.01
    heat = figures[0].axes[1].collections[0].get_array()
    np.testing.assert_allclose(
        heat, (found[0, ..., 1] - found[0, 1, 0, 1]).numpy().reshape(heat.shape), atol=1e-6
    )


def test_a_logo_in_given_axes():
    figure, axes = mpl.figure.Figure(), None
    axes = figure.add_subplot()
    assert plot_logo(torch.rand(4, 6), axes=axes) is figure


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plot_logo(torch.rand(1, 4, 6)), r"\(4, l\).*ACGT.*\(1, 4, 6\)"),
        (lambda: plot_logo(torch.rand(4, 0)), r"received \(4, 0\)"),
        (lambda: plot_logo(torch.full((4, 6), torch.nan)), "finite numbers, received nan"),
        (lambda: plot_logo(torch.zeros(4, 6), information=True), "positive sum"),
        (lambda: plot_ism(torch.rand(4, 6), DNA.tokens("ACGTA")), r"tokens \(6,\), received \(5,\)"),
        (lambda: plot_ism(torch.rand(4, 3), DNA.tokens("NNN")), "at least one plain letter"),
        (lambda: plot_prediction(torch.rand(2), torch.rand(4, 3), names=["a"]), "1 names"),
    ],
)
def test_pictures_name_what_is_wrong(call, words):
    with pytest.raises(shared.UserError, match=words):
        call()


def same(tokens):
    return tokens.float()


def test_experiments_change_what_they_should():
    tokens = DNA.tokens(["AAAAAAAAAA", "CCCCCCCCCC"])
    before, after = marginalize(same, tokens, "GTG")
    assert torch.equal(before, same(tokens))
    assert DNA.text(after.byte()) == ["AAAGTGAAAA", "CCCGTGCCCC"]
    _, after = marginalize(same, tokens, "GTG", position=7, batch_size=1)
    assert DNA.text(after.byte()) == ["AAAAAAAGTG", "CCCCCCCGTG"]
    _, after = space(same, tokens, "G", "TT", [0, 5])
    assert DNA.text(after[0].byte()) == ["AGTTAAAAAA", "AGAAAAATTA"]
    mixed = DNA.tokens(["ACGTACGTAC"])
    _, after = ablate(same, mixed, 2, 8, count=30, seed=1)
    rows = after[0].byte()
    assert torch.equal(rows[:, [0, 1, 8, 9]], mixed[:, [0, 1, 8, 9]].expand(30, 4))
    assert torch.equal(rows.sort(1).values, mixed.sort(1).values.expand(30, 10))
    assert len(rows.unique(dim=0)) > 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: marginalize(same, t, "GGGGGG"), "within sequences of 5, received 6 letters"),
        (lambda t: marginalize(same, t, ""), "at least one letter"),
        (lambda t: marginalize(same, t, "GG", position=4), "at position 4"),
        (lambda t: marginalize(same, t, "G!"), "motif.*'!' at position 2"),
        (lambda t: ablate(same, t, 3, 3), "0 <= start < end <= 5, received 3 and 3"),
        (lambda t: ablate(same, t, 0, 3, count=0), "count"),
        (lambda t: space(same, t, "G", "G", []), "spacings from 0 on"),
        (lambda t: space(same, t, "G", "G", [4]), "within sequences of 5"),
        (lambda t: marginalize(same, t.long(), "G"), "uint8"),
    ],
)
def test_experiments_name_what_is_wrong(call, words):
    with pytest.raises(shared.UserError, match=words):
        call(DNA.tokens(["ACGTA"]))
