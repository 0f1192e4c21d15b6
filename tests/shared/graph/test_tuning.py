"""Tuning: the fastest way is taken, remembered in a file, and measured anew where something else is asked."""

import copy
import functools
import json
import logging

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import shared
from biolayers.layers import TokenConv1d
from shared.graph import placing, remembered, timing, tuning
from shared.graph.tuning import Choice, preferring, run_as


@pytest.fixture
def files(tmp_path, monkeypatch):
    """An empty cache; Inductor, which takes seconds, is left out."""
    monkeypatch.setenv("QBIO_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "has_compiler", lambda: False)
    return lambda: sorted((tmp_path / "tuning").glob("*.json"))


@pytest.fixture
def clock(monkeypatch):
    """Pretended times: of a choice by its name, else one; and how often something was timed."""
    times, calls = {}, []

    def medians(modules, inputs, *, training):
        calls.append(training)
        return [times.get(name_of(module), 10.0) for module in modules]

    monkeypatch.setattr(timing, "medians", medians)
    return times, calls


def name_of(module):
    if isinstance(module, tuning.Preferring):
        return module._providers[0][1]
    return "region" if isinstance(module, placing.Region) else "as it is"


def model_and_tokens():
    model = nn.Sequential(TokenConv1d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 18, 2))
    return model, torch.randint(0, 4, (3, 20), dtype=torch.uint8)


def test_measured_once_and_then_remembered(files):
    model, tokens = model_and_tokens()
    first = shared.optimize(model, tokens, tune=True, dtype="bfloat16").report.tuning
    assert not first.remembered
    names = [each.candidate for each in first.timings]  # the region is tried on top of the best so far
    assert names[:2] == ["as it is", "biolayers::token_conv1d by reference"]
    assert [name.endswith("autocast bfloat16") for name in names] == [False, False, True]
    assert all(each.milliseconds > 0 for each in first.timings)
    assert "chosen" in str(first)
    second = shared.optimize(model, tokens, tune=True, dtype="bfloat16").report.tuning
    assert second.remembered
    assert (second.timings, second.chosen) == (first.timings, first.chosen)
    assert [str(each) for each in files()] == [second.file]


def test_the_fastest_is_taken_and_the_choice_is_carried_out(files, clock):
    times, calls = clock
    times["reference"] = 3.0
    model, tokens = model_and_tokens()
    better = shared.optimize(model, tokens, tune=True)
    assert str(better.report.tuning.chosen) == "biolayers::token_conv1d by reference"
    rows = [each.provider for each in better.report.placements if each.call == "biolayers::token_conv1d"]
    assert rows == ["reference"]
    assert [change.rule for change in better.report.changes] == ["tune"]
    assert_close(better(tokens), model(tokens))
    assert list(better.state_dict()) == list(model.state_dict())
    seen = len(calls)
    assert shared.optimize(model, tokens, tune=True).report.tuning.remembered
    assert len(calls) == seen


def test_slower_and_hardly_faster_ways_are_not_taken(files, clock):
    times, _ = clock
    times.update(reference=9.9, region=30.0)
    model, tokens = model_and_tokens()
    better = shared.optimize(model, tokens, tune=True, dtype="bfloat16")
    assert better.report.tuning.chosen == Choice()
    assert not better.report


def test_another_machine_shape_or_wish_is_measured_anew(files, clock, monkeypatch):
    model, tokens = model_and_tokens()
    shared.optimize(model, tokens, tune=True)
    for wish in ({"training": False}, {"dtype": "bfloat16"}):
        assert not shared.optimize(model, tokens, tune=True, **wish).report.tuning.remembered
    wider = torch.cat([tokens, tokens])
    assert not shared.optimize(model, wider, tune=True).report.tuning.remembered
    here = remembered.machine()
    monkeypatch.setattr(remembered, "machine", lambda: {**here, "processor": "another"})
    assert not shared.optimize(model, tokens, tune=True).report.tuning.remembered
    assert len(files()) == 5


def test_damaged_files_are_measured_anew(files, clock, caplog):
    model, tokens = model_and_tokens()
    shared.optimize(model, tokens, tune=True)
    (file,) = files()
    good = json.loads(file.read_text())
    choice = {**good["choice"], "providers": [["biolayers::token_conv1d", "nobody"]]}
    for text in (
        "{",
        "[1]",
        "{}",
        json.dumps({**good, "timings": [3]}),
        json.dumps({**good, "choice": choice}),
    ):
        file.write_text(text)
        with caplog.at_level(logging.WARNING):
            assert not shared.optimize(model, tokens, tune=True).report.tuning.remembered, text
        assert json.loads(file.read_text()) == good


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, clock, monkeypatch, caplog):
    monkeypatch.setattr(tuning, "has_compiler", lambda: False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QBIO_CACHE", str(tmp_path / "file"))
    model, tokens = model_and_tokens()
    assert not shared.optimize(model, tokens, tune=True).report.tuning.remembered
    assert "cannot be" in caplog.text


def test_what_computes_something_else_is_not_taken(files, clock, monkeypatch):
    times, _ = clock
    times["reference"] = 1.0
    monkeypatch.setattr(tuning.trial, "wrong", lambda module, *_: "values differ")
    model, tokens = model_and_tokens()
    wanted = tuning.trial.outcomes(model, (tokens,), training=False)
    found = tuning.tuned(model, (tokens,), wanted, dtype=None, training=False)
    assert found.chosen == Choice()
    assert "computes something else: values differ" in str(found)


def test_compiled_models_are_copied_and_train(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.rand(2, 3)
    better = run_as(model, (x,), Choice(compiled=True))
    assert_close(better(x), model(x))
    better(x).sum().backward()
    assert model[0].weight.grad is not None
    twin = copy.deepcopy(better)
    assert twin._run is None
    assert_close(twin(x), model(x))


def test_preferences_end_with_the_call():
    model, tokens = model_and_tokens()
    choice = Choice(providers=(("biolayers::token_conv1d", "reference"),))
    better = run_as(model, (tokens,), choice)
    assert_close(better(tokens), model(tokens))
    op = shared.registry()["biolayers::token_conv1d"]
    layer = model[0]
    args = (tokens, layer.weight, layer.bias)
    assert shared.explain(op, *args).chosen == "numba"
    with preferring(choice.providers):
        assert shared.explain(op, *args).chosen == "reference"
