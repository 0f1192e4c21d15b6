"""The report: every picture is there for odd runs too, nothing is unescaped, circuits are drawn."""

import re

import pytest
import torch
from torch import nn

from shared.app import figures
from shared.app.report import Facts, circuits, write_report
from shared.app.runs import Run
from shared.app.scores import summary


class Drawn:
    def draw(self) -> str:
        return "0: ──RX──┤ <Z> & more"


class WithCircuit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.circuit = Drawn()


def row(epoch):
    return {"epoch": epoch, "train/loss": 1.0, "val/loss": 0.9, "train/accuracy": 0.5, "val/accuracy": 0.6}


def metrics_of(confusion, classes, epochs):
    return {
        **summary(confusion, classes),
        "test/accuracy": 0.5,
        "history": [row(epoch) for epoch in range(1, epochs + 1)],
        "epochs": epochs,
        "best_epoch": 1,
        "finished": "now",
        "seed": 0,
        "parameters": 3,
        "samples/s": 1000.0,
        "seconds": {"training": 1.0},
        "versions": {"torch": torch.__version__},
    }


@pytest.mark.parametrize(
    ("classes", "epochs"), [(["a", "b"], 1), ([f"a long name {i}" for i in range(9)], 40)]
)
def test_a_page_is_made_of_any_run(tmp_path, classes, epochs):
    n = len(classes)
    confusion = torch.randint(0, 30, (n, n)).tolist()
    run = Run(tmp_path)
    facts = Facts(title="t", counts={"train": dict.fromkeys(classes, 4)}, data=["d"])
    write_report(run, metrics_of(confusion, classes, epochs), nn.Linear(1, 1), facts)
    page = run.report.read_text()
    assert page.count("<svg") == page.count("</svg>") == 4
    for name in classes:
        assert name in page


def test_names_from_the_data_are_escaped(tmp_path):
    run = Run(tmp_path)
    classes = ["<b>", "a&b $x_1$"]
    facts = Facts(title="<script>", counts={"train": dict.fromkeys(classes, 1)})
    write_report(run, metrics_of([[1, 0], [0, 1]], classes, 1), nn.Linear(1, 1), facts)
    page = run.report.read_text()
    assert "<script>" not in page
    assert "<b></td>" not in page
    assert "&lt;b&gt;" in page
    assert page.count("a&amp;b $x_1$") == 5  # two tables; both axes of the matrix; the scores


def test_every_circuit_is_drawn(tmp_path):
    model = nn.Sequential(nn.Linear(1, 1), nn.ModuleDict({"quantum": WithCircuit()}))
    assert circuits(model) == {"1.quantum": "0: ──RX──┤ <Z> & more"}
    run = Run(tmp_path)
    write_report(
        run, metrics_of([[1, 0], [0, 1]], ["a", "b"], 1), model, Facts(title="t", counts={"train": {}})
    )
    assert "0: ──RX──┤ &lt;Z&gt; &amp; more" in run.report.read_text()


def test_pictures_are_the_same_every_time_and_share_no_ids():
    history = [row(1), row(2)]
    loss = figures.curves(history, "loss", best_epoch=1)
    assert loss == figures.curves(history, "loss", best_epoch=1)
    ids = [
        set(re.findall(r'id="(m\w{9,}|p\w{9,})"', picture))
        for picture in (loss, figures.curves(history, "accuracy", best_epoch=1))
    ]
    assert not ids[0] & ids[1]
    assert "#010203" not in loss
