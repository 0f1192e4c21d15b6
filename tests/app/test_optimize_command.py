"""`qbio optimize`: reports on runs and on functions, and no traceback for what is wrong."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from biolayers.models import build
from shared.app import models

MODELS = """
import torch
from torch import nn
import torch.nn.functional as F


class Front(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv1d(4, 8, 5), nn.Linear(8, 2)

    def forward(self, tokens):
        return self.linear(self.conv(F.one_hot(tokens, 4).transpose(1, 2).float()).relu().mean(-1))


def front():
    return Front(), torch.randint(0, 4, (3, 40))


def plain():
    return nn.Linear(2, 2), (torch.rand(3, 2),)


def number():
    return 3


def broken():
    raise ValueError("no such data")


def unfit():
    return nn.Linear(2, 2), torch.rand(3, 5)


constant = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder with a file of models."""
    (tmp_path / "my_models.py").write_text(MODELS)
    (tmp_path / "not_python.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_function(qbio, folder):
    code, out, err = qbio(
        "optimize", "my_models.py:front", "--time", "--svg", "graph.svg", "--json", "report.json"
    )
    assert code == 0, err
    assert "one_hot + conv1d" in out
    assert "training step: " in out
    assert ">Conv1d<" in (folder / "graph.svg").read_text()
    content = json.loads((folder / "report.json").read_text())
    assert content["changes"][0]["rule"] == "token_conv1d"
    assert content["after"]["flops"] < content["before"]["flops"]
    assert set(content["milliseconds"]) == {"before", "after"}


def test_nothing_to_change(qbio, folder):
    code, out, _ = qbio("optimize", "my_models:plain", "--svg", "one.svg", "--inference", "--time")
    assert code == 0
    assert out.startswith("nothing to change")
    assert "forward pass: " in out
    assert "before and after" in out
    assert ">linear<" in (folder / "one.svg").read_text()


@pytest.fixture
def runs(monkeypatch):
    """The entry point of this package's runs, as it is installed."""
    entry = EntryPoint("biolayers", "biolayers.commands.rebuilding:model_of_run", models.GROUP)
    monkeypatch.setattr(models, "entry_points", lambda group: [entry])


def test_a_run(qbio, tmp_path, runs):
    model = build("cnn", length=40, classes=2, letters=4)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    card = {"model": "cnn", "classes": ["a", "b"], "alphabet": "DNA", "length": 40}
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    file.parent.mkdir(parents=True)
    torch.save({"qbio": card, "state_dict": weights}, file)
    code, out, err = qbio("optimize", tmp_path / "run", "--batch-size", 8, "--dtype", "bfloat16")
    assert code == 0, err
    assert "products in bfloat16" in out
    assert "placed (" in out
    assert qbio("optimize", file, "--batch-size", 2)[0] == 0


MISTAKES = {
    "nothing": "expected the folder of a run, or a function as module:function or file.py:function",
    "missing.py:front": "missing.py: expected a file of Python, found none",
    "no_such_module:front": "no_such_module: expected a module that imports, received ModuleNotFoundError",
    "not_python.py:front": "not_python.py: expected a file that runs, received SyntaxError",
    "my_models.py:back": "expected a function back, found none",
    "my_models.py:constant": "expected a function constant, found none",
    "my_models.py:number": "expected (model, example_inputs) from the function, received int",
    "my_models.py:broken": "received ValueError: no such data",
    "my_models.py:unfit": "expected example inputs that the model runs on, received float32 (3, 5)",
    ".": "expected a file at checkpoints/best.ckpt, found none",
}


@pytest.mark.parametrize("source", MISTAKES)
def test_wrong_models(qbio, folder, runs, source):
    code, out, err = qbio("optimize", source)
    assert code == 2
    assert out == ""
    assert MISTAKES[source] in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--svg", "no/x.svg", "--svg: expected a file that can be written, received no/x.svg"),
        ("--json", ".", "which is a folder"),
        ("--dtype", "int8", "--dtype: expected 'float32' or 'bfloat16' or 'float16', received int8"),
        ("--device", "fridge", "device: expected one that this machine and this PyTorch have"),
        ("--passes", "fast", "passes: expected names among"),
        ("--recompute", "-1", "recompute: expected a share of a step's time"),
        ("--batch-size", "0", "--batch-size: expected a whole number from 1"),
    ],
)
def test_wrong_options(qbio, folder, option, value, words):
    code, _, err = qbio("optimize", "my_models.py:plain", option, value)
    assert code == 2
    assert words in err
