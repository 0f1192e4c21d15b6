"""The parts of `benchmarks/accuracy.py` that its figures rest on."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from biolayers import DNA

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = ("accuracy", "composed_cnn", "composition", "kmer_bag", "learning")
    return SimpleNamespace(**{name: __import__(name) for name in names})


def test_a_bag_counts_every_k_mer_on_either_strand_and_none_with_n(bench):
    bag = bench.kmer_bag.KmerBag(2, ks=(2, 3), rows=1 << 10)
    text = "ACGTNAAC"
    expected = []
    for place, k in enumerate((2, 3)):
        for start in range(len(text) - k + 1):
            word = text[start : start + k]
            both = (word, word.translate(str.maketrans("ACGT", "TGCA"))[::-1])
            numbers = [
                int(each.translate(str.maketrans("ACGT", "0123")), 4) for each in both if "N" not in each
            ]
            expected.append(min(numbers) + place * 1024 if numbers else bag.nothing)
    tokens = DNA.tokens([text])
    assert bag.places(tokens).tolist() == [expected]
    other = DNA.reverse_complement(tokens)
    torch.testing.assert_close(bag.eval()(other), bag(tokens))


def test_long_k_mers_stay_in_the_table(bench):
    bag = bench.kmer_bag.KmerBag(2, ks=(12,), rows=1 << 8)
    tokens = torch.randint(0, 4, (3, 50)).to(torch.uint8)
    assert bag.places(tokens).max() < bag.nothing


def test_the_composition_counts_every_short_word_on_either_strand(bench):
    made_of = bench.composition.Composition(3, ks=(1, 2), edges=(1.5,)).eval()
    tokens = DNA.tokens(["ACGTNAAC"])
    (k, codes, strange), _ = bench.composition.words(tokens, (1, 2))
    # A and T share a code, C and G another; the middle (G, T, N, A) has counts of its own
    assert made_of.counts(k, codes, strange).tolist() == [[2, 1, 0, 0, 2, 2, 0, 0]]
    torch.testing.assert_close(made_of(tokens), made_of(DNA.reverse_complement(tokens)))


@pytest.mark.parametrize("gated", [False, True])
def test_a_bag_with_a_composition_is_the_same_on_either_strand(bench, gated):
    bag = bench.kmer_bag.KmerBag(2, ks=(3,), rows=1 << 6, composition=(1, 2), gated=gated)
    tokens = torch.randint(0, 4, (6, 20)).to(torch.uint8)
    bag(tokens).sum().backward()
    assert all(weight.grad is not None for weight in bag.parameters())
    torch.testing.assert_close(bag.eval()(tokens), bag(DNA.reverse_complement(tokens)))


def test_the_cnn_hides_letters_in_training_only(bench):
    cnn = bench.composed_cnn.ComposedCNN(2, channels=8, layers=1, hidden=4, hides=1.0)
    seen = []
    cnn.convolve[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tokens = torch.randint(0, 4, (6, 20)).to(torch.uint8)
    cnn(tokens).sum().backward()
    assert all(weight.grad is not None for weight in cnn.parameters())
    assert cnn.eval()(tokens).shape == (6, 2)
    assert (seen[0] == bench.composed_cnn.EMPTY).all()
    assert torch.equal(seen[1], tokens)


def test_training_learns_and_gives_averaged_weights(bench):
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    tokens = torch.randint(0, 4, (256, 20), generator=rng).to(torch.uint8)
    labels = (tokens == 2).sum(1).gt(5).long()  # many G
    settings = bench.learning.Settings(epochs=6, batch_size=32, lr=0.1, average=0.8)
    model = nn.Sequential(Counts(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    *_, found = bench.learning.fit(model, tokens, labels, settings, seed=0)
    rows = bench.learning.log_chances(found, tokens, both_strands=False)
    assert bench.accuracy.mcc(rows[:, 1] - rows[:, 0], labels) > 0.8
    assert found[2].weight is not model[2].weight
    assert not torch.equal(found[2].weight, model[2].weight)
    both = bench.learning.log_chances(found, tokens, both_strands=True)
    other = bench.learning.log_chances(found, DNA.reverse_complement(tokens), both_strands=True)
    torch.testing.assert_close(both, other)


class Counts(nn.Module):
    def forward(self, tokens):
        return torch.stack([(tokens == letter).sum(1) for letter in range(4)], 1).float()


def test_what_training_has_seen_is_found_on_either_strand(bench, tmp_path):
    rng = torch.Generator().manual_seed(0)
    train = torch.randint(0, 4, (20, 60), generator=rng).to(torch.uint8)
    test = torch.randint(0, 4, (5, 60), generator=rng).to(torch.uint8)
    test[0], test[1] = train[3], DNA.reverse_complement(train[4:5])[0]
    test[2, 10:34] = train[5, :24]
    test[3, 10:33] = train[6, :23]
    test[3, 33] = (train[6, 23] + 1) % 4
    parts = {"train": (train, torch.zeros(20)), "test": (test, torch.zeros(5))}
    seen = bench.accuracy.seen_before(parts)
    assert seen["whole"].tolist() == [True, True, False, False, False]
    assert seen["overlap"].tolist() == [True, True, True, False, False]


def test_distinct_sequences_keep_their_first_label_and_their_order(bench):
    tokens = torch.tensor([[1, 2], [0, 0], [1, 2], [3, 3]], dtype=torch.uint8)
    kept, labels = bench.accuracy.distinct(tokens, torch.tensor([0, 1, 2, 1]))
    assert kept.tolist() == [[1, 2], [0, 0], [3, 3]]
    assert labels.tolist() == [0, 1, 1]


def test_a_set_is_read_and_judged(bench, tmp_path):
    file = tmp_path / "train.csv.gz"
    with gzip.open(file, "wt") as lines:
        lines.write("sequence,label\nACGTN,1\nTTTTA,0\n")
    tokens, labels = bench.accuracy.read(file)
    assert tokens.tolist() == [[0, 1, 2, 3, 4], [3, 3, 3, 3, 0]]
    assert labels.tolist() == [1, 0]
    labels = torch.tensor([1, 1, 0, 0, 1, 0])
    scores = torch.tensor([1.0, -1.0, -1.0, -2.0, 3.0, 0.5])
    assert bench.accuracy.mcc(scores, labels) == pytest.approx(
        (2 * 2 - 1 * 1) / 9
    )  # 3 of each, predicted and true
