"""The reference models: sizes of the papers, input by tokens or columns, heads, configurations, training."""

import json
from itertools import pairwise

import jaxtyping
import pytest
import torch
from torch import nn

from biolayers import DNA, models
from biolayers.models.build import REFERENCES, reference
from shared.errors import UserError

# Small enough for a test; every option that a shape depends on.
SMALL = {
    "deepbind": {"classes": 3, "filters": 5, "kernel_size": 7, "hidden": 6, "dropout": 0.0},
    "danq": {
        "length": 50,
        "classes": 3,
        "filters": 6,
        "kernel_size": 8,
        "units": 5,
        "hidden": 7,
        "dropout": [0.0, 0.0],
    },
    "basset": {"length": 200, "classes": 3, "filters": [6, 5, 4], "hidden": [8, 7]},
    "bpnet": {"classes": 3, "filters": 6, "layers": 3},
    "deepstarr": {"length": 50, "classes": 3, "filters": [6, 5, 5, 4], "hidden": [8, 7]},
    "legnet": {"classes": 3, "widths": [8, 6, 4]},
    "rchyena": {"classes": 3, "width": 8, "layers": 2},
    "carp": {"classes": 3, "letters": 4, "width": 8, "layers": 3, "dilations": 4, "per": "sequence"},
}


def small(name: str, **options) -> models.ReferenceModel:
    torch.manual_seed(0)
    return reference(name)(**SMALL[name] | options)


def draw(count: int, length: int, *, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 5, (count, length), generator=rng).to(torch.uint8)  # A C G T N


def length_of(name: str) -> int:
    return SMALL[name].get("length", 50)


def trained(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def dense(*widths: int) -> int:
    return sum(before * after + after for before, after in pairwise(widths))


def test_danq_has_the_parameters_that_its_authors_count():
    with torch.device("meta"):
        assert trained(models.DanQ()) == 46_926_479  # Quang and Xie 2016


def test_carp_has_the_600_thousand_parameters_of_its_name():
    model = models.CARP(letters=30, classes=30)  # the paper's alphabet
    assert round(trained(model), -4) == 610_000
    block = dense(128, 64) + (64 * 64 * 5 + 64) + dense(64, 128) + 2 * (128 + 64 + 64)
    assert trained(model) == 30 * 8 + dense(8, 128) + 16 * block + 2 * 128 + dense(128, 30)


def test_other_models_have_the_parameters_of_their_papers_tables():
    deepbind = (16 * 4 * 24 + 16) + dense(16, 32, 1)
    assert trained(models.DeepBind()) == deepbind == 2_129
    convs = (300 * 4 * 19 + 300) + (200 * 300 * 11 + 200) + (200 * 200 * 7 + 200)
    norms = 2 * (300 + 200 + 200 + 1000 + 1000)
    assert trained(models.Basset()) == convs + norms + dense(2000, 1000, 1000, 164) == 4_135_064
    convs = (256 * 4 * 7 + 256) + (60 * 256 * 3 + 60) + (60 * 60 * 5 + 60) + (120 * 60 * 3 + 120)
    norms = 2 * (256 + 60 + 60 + 120 + 256 + 256)
    assert trained(models.DeepSTARR()) == convs + norms + dense(1800, 256, 256, 2) == 622_722
    tower = 9 * (64 * 64 * 3 + 64)
    outputs = 4 * (64 * 2 * 25 + 2) + 4 * dense(64, 2)
    assert trained(models.BPNet()) == (64 * 4 * 25 + 64) + tower + outputs == 130_960


def test_legnet_has_the_parameters_of_its_authors_settings():
    widths = [256, 128, 128, 64, 64, 64, 64]
    expected = 6 * 256 * 7 + 2 * 256 + dense(64, 18)
    for before, after in pairwise(widths):
        inner = 4 * before
        expected += before * inner * 2 + inner * 7 + dense(inner, before // 4, inner)
        expected += 2 * before * after * 7 + 2 * (2 * inner + before + after)
    assert trained(models.LegNet(letters=6)) == expected == 2_129_602


@pytest.mark.parametrize("name", REFERENCES)
def test_columns_in_place_of_tokens_give_the_same(name):
    model, tokens = small(name).double().eval(), draw(3, length_of(name))
    columns = (tokens.unsqueeze(1) == torch.arange(4).unsqueeze(1)).double()  # zeros for N
    found = model(tokens)
    assert found.shape == (3, 3)
    torch.testing.assert_close(model(columns.requires_grad_()), found)
    (grad,) = torch.autograd.grad(found.sum() + model(columns).sum(), columns)
    assert grad.isfinite().all()
    assert grad.any()


@pytest.mark.parametrize("name", REFERENCES)
def test_a_model_learns_and_comes_back_from_its_folder(name, tmp_path):
    model, tokens = small(name), draw(8, length_of(name))
    labels = torch.arange(8) % 3
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    before = nn.functional.cross_entropy(model.eval()(tokens), labels)
    model.train()
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens), labels).backward()
        optimizer.step()
    assert nn.functional.cross_entropy(model.eval()(tokens), labels) < 0.8 * before
    model.save_pretrained(tmp_path / "new" / name)
    again = models.from_pretrained(tmp_path / "new" / name)
    assert type(again) is type(model)
    assert again.config == model.config
    torch.testing.assert_close(again(tokens), model(tokens), rtol=0, atol=0)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_name_builds_a_classifier_whose_gradients_reach_the_first_layer(name):
    model = models.build(name, length=200, classes=2)
    model(draw(2, 200)).logsumexp(1).sum().backward()
    assert next(model.parameters()).grad.isfinite().all()


def test_a_head_by_name_by_callable_and_unknown(tmp_path):
    model = small("deepbind", head="quantum")
    assert type(model.head).__name__ == "QuantumHead"
    assert model(draw(4, 50)).shape == (4, 3)
    model.save_pretrained(tmp_path)
    again = models.from_pretrained(tmp_path)
    torch.testing.assert_close(again(draw(4, 50)), model.eval()(draw(4, 50)))
    assert type(models.build("deepstarr+quantum", length=32, classes=2).head).__name__ == "QuantumHead"
    with pytest.raises(
        UserError, match=r"no installed package offers the head 'magic'; choose one of .*quantum"
    ):
        models.build("basset+magic", length=200, classes=2)


def test_a_callable_as_head_must_be_given_again(tmp_path):
    def mine(features, classes):
        return nn.Sequential(nn.Linear(features, 5), nn.Tanh(), nn.Linear(5, classes))

    model = small("deepstarr", head=mine)
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="a head of the user's own; give that callable as head="):
        models.from_pretrained(tmp_path)
    again = models.DeepSTARR.from_pretrained(tmp_path, head=mine)
    torch.testing.assert_close(again(draw(2, 50)), model.eval()(draw(2, 50)))
    assert type(models.build("legnet", length=50, classes=2, head=mine).head) is nn.Sequential


def _cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])


def _pickle(folder):
    torch.save({"a": torch.zeros(1)}, folder / "model.safetensors")


def _empty(folder):
    (folder / "model.safetensors").write_bytes(b"")


def _no_weights(folder):
    (folder / "model.safetensors").unlink()


def _not_json(folder):
    (folder / "config.json").write_text("{")


def _list(folder):
    (folder / "config.json").write_text("[1]")


def _another(folder):
    (folder / "config.json").write_text(json.dumps({"model": "basset", "options": SMALL["basset"]}))


def _wider(folder):
    options = SMALL["deepbind"] | {"filters": 9}
    (folder / "config.json").write_text(json.dumps({"model": "deepbind", "options": options}))


def _new_option(folder):
    (folder / "config.json").write_text(json.dumps({"model": "deepbind", "options": {"colour": "red"}}))


def _no_model(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "expected a whole safetensors file"),
        (_pickle, "expected a whole safetensors file"),
        (_empty, "expected a whole safetensors file"),
        (_no_weights, "expected the weights"),
        (_not_json, "expected a configuration by save_pretrained"),
        (_list, "expected a configuration by save_pretrained"),
        (_another, "expected a deepbind, received a basset"),
        (_wider, "the weights do not fit"),
        (_new_option, "expected options among .*, received colour"),
        (_no_model, "found no config.json"),
    ],
)
def test_damaged_files_are_refused(damage, message, tmp_path):
    small("deepbind").save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        models.DeepBind.from_pretrained(tmp_path)


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(UserError, match="expected a folder to save into"):
        small("deepbind").save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.build("resnet", length=9, classes=2), "expected one of cnn, hybrid, deepbind"),
        (lambda: models.build("resnet+quantum", length=9, classes=2), "expected one of cnn"),
        (lambda: models.build("cnn+", length=9, classes=2), "expected one of cnn"),
        (lambda: models.build("cnn+quantum", length=9, classes=2, head="quantum"), "expected one head"),
        (lambda: models.build("rchyena", length=9, classes=2, letters=20), "reads DNA"),
        (lambda: models.build("danq", length=9, classes=2, width=3), "received width"),
        (lambda: models.Basset(length=167), "at least 168 letters, received length=167"),
        (lambda: models.DanQ(length=37), "at least 38 letters"),
        (lambda: models.DeepSTARR(length=15), "at least 16 letters"),
        (lambda: models.DeepSTARR(classes=0), "expected classes of at least 1"),
        (lambda: models.DeepBind(pool="min"), "expected pool"),
        (lambda: models.BPNet(head="quantum"), "expected classes together with head"),
        (lambda: models.BPNet(profile_kernel_size=24), "expected an odd profile_kernel_size"),
        (lambda: models.CARP(per="protein"), "expected per"),
        (lambda: models.CARP(dilations=3), "power of 2"),
        (lambda: models.RCHyena(width=7), "an even width"),
        (lambda: models.RCHyena(objective="guess"), "expected objective"),
        (lambda: models.RCHyena(head="quantum"), "expected classes together with head"),
    ],
)
def test_wrong_options_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("name", REFERENCES)
def test_nothing_but_unknown_letters_and_no_sequence_at_all(name):
    model, length = small(name).eval(), length_of(name)
    assert model(torch.full((2, length), 4, dtype=torch.uint8)).isfinite().all()
    assert model(torch.full((2, length), 255, dtype=torch.uint8)).isfinite().all()
    assert model(draw(0, length)).shape == (0, 3)
    with pytest.raises((UserError, jaxtyping.TypeCheckError), match=r"(?i)uint8"):
        model(draw(2, length).long())


def test_the_first_layer_reads_the_alphabet_of_the_sequences():
    tokens = DNA.tokens(["ACGTNACGTT" * 5, "TTTTTACGTN" * 5])
    torch.testing.assert_close(small("legnet").eval()(tokens)[1:], small("legnet").eval()(tokens[1:]))
