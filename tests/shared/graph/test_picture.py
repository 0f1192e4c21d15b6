"""Graphs as boxes and as SVG: every call once, few boxes for large models, what changed, the longest path."""

import xml.etree.ElementTree as ET

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import shared
from shared.errors import UserError
from shared.graph.boxes import boxes_of, critical, new_in
from shared.graph.picture import _layout, _path


class Front(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv1d(4, 8, 5), nn.MaxPool1d(4)
        self.long, self.short = (
            nn.Sequential(nn.Linear(72, 32), nn.ReLU(), nn.Linear(32, 2)),
            nn.Linear(72, 2),
        )

    def forward(self, tokens):
        x = F.one_hot(tokens, 4).transpose(1, 2).float()
        x = self.pool(F.relu(self.conv(x))).flatten(1)
        return self.long(x) + self.short(x).tanh()


def titles(graph):
    return [graph.nodes[each]["box"].title for each in graph]


def words(path):
    return [each.text for each in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def report():
    return shared.optimize(Front(), torch.randint(0, 4, (3, 40))).report


def test_boxes_are_what_the_user_wrote(report):
    before, after = boxes_of(report.before), boxes_of(report.after)
    assert titles(before) == [
        "one_hot · float", "Conv1d", "relu", "MaxPool1d", "Linear", "ReLU", "Linear", "Linear", "tanh", "add"
    ]  # fmt: skip
    assert before.number_of_edges() == 10
    assert [titles(before)[list(before).index(each)] for each in sorted(new_in(before, after))] == titles(
        before
    )[:4]
    assert {titles(after)[list(after).index(each)] for each in new_in(after, before)} == {titles(after)[0]}
    boxes = [before.nodes[each]["box"] for each in before]
    assert sum(box.flops for box in boxes) == report.before.flops
    assert {box.place for box in boxes} == {"", "conv", "pool", "long.0", "long.1", "long.2", "short"}


def test_the_longest_path_runs_straight_down(report):
    graph = boxes_of(report.before)
    path = _path(graph, report.before)
    assert "short" not in {graph.nodes[each]["box"].place for each in path}
    assert sum(report.before.steps[each].flops for each in critical(report.before)) == report.before.critical
    layout = _layout(graph, path)
    assert len({layout[each][0] for each in path}) == 1
    assert len(set(layout.values())) == len(layout)  # nothing lies on something else
    assert min(x for x, _ in layout.values()) > 0


def test_svg(report, tmp_path):
    file = tmp_path / "both.svg"
    report.svg(file)
    found = words(file)
    assert {"before", "after", "Conv1d", "in this graph alone", "longest path"} <= set(found)
    assert any("token_conv1d_max_pool" in each for each in found)
    first = file.read_bytes()
    report.svg(file)
    assert file.read_bytes() == first  # the same picture is the same file


def test_large_models_have_few_boxes(tmp_path):
    deep = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)) for _ in range(25)])
    found = shared.analyse(deep, torch.rand(2, 4))
    assert titles(boxes_of(found)) == ["Sequential"] * 25
    assert len(boxes_of(found, most=100)) == 75
    found.svg(tmp_path / "one.svg")
    assert words(tmp_path / "one.svg").count("Sequential") == 25


def test_mistakes(report, tmp_path):
    with pytest.raises(UserError, match="expected a file that can be written"):
        report.svg(tmp_path / "nowhere" / "x.svg")
    nothing = shared.optimize(nn.Linear(2, 2), torch.rand(1, 2)).report
    with pytest.raises(UserError, match="received one without changes; draw the model with"):
        nothing.svg(tmp_path / "x.svg")
