"""What single rules of `shared.optimize` gain: a model without them, with them, and as its user wrote it.

    python benchmarks/rules.py [--write] [--threads N] [--seconds S] [--only PATTERN]

Values and gradients of all three are compared first: no time is shown for models that disagree. They take
turns; ratios are of neighbours in one round.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import record
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import shared
from shared.graph.arranging import NAMES
from shared.graph.rules import chosen

TITLE = "Single rules of shared.optimize"
WITH, WITHOUT, AS_IT_IS = "with the rule", "without", "as it is"
AGREE = 1e-4  # of the largest number of a tensor


class Case(NamedTuple):
    """A model, a tensor for it, and the rule that is looked at."""

    name: str
    rule: str
    model: nn.Module
    x: Tensor
    training: bool


class Front(nn.Module):
    """One-hot letters of one strand or both, a convolution, and what is said comes after it."""

    def __init__(self, after: Callable[[Tensor], Tensor], *, both: bool) -> None:
        super().__init__()
        self.conv, self.after, self.both = nn.Conv1d(4, 128, 19), after, both

    def forward(self, tokens: Tensor) -> Tensor:  # (b, l) -> (b, 128, q)
        x = F.one_hot(tokens, 4).transpose(1, 2).float()
        given = self.after(self.conv(x))
        if not self.both:
            return given
        return torch.maximum(given, self.after(self.conv(x.flip(1, 2))))


def maxima(y: Tensor) -> Tensor:
    return F.max_pool1d(y.relu(), 10)


def largest(y: Tensor) -> Tensor:
    return y.max(-1).values


def means(y: Tensor) -> Tensor:
    return F.avg_pool1d(y.relu(), 10)


def curved(y: Tensor) -> Tensor:
    return F.avg_pool1d(F.gelu(y), 10)


def cases() -> list[Case]:
    """Fronts of sequence models, and images with a norm in evaluation."""
    letters, found = torch.randint(0, 4, (64, 1008)), []
    fronts = {"ReLU, max-pool 10": maxima, "ReLU, avg-pool 10": means, "GELU, avg-pool 10": curved}
    fronts |= {"max over all": largest, "ReLU": torch.relu}
    for name, after in fronts.items():
        model = Front(after, both=True)
        found += [
            Case(f"both strands, {name}", "token_conv1d_strands", model, letters, each)
            for each in (False, True)
        ]
    for name in ("ReLU, avg-pool 10", "GELU, avg-pool 10"):
        model = Front(fronts[name], both=False)
        found += [Case(name, "token_conv1d_avg_pool", model, letters, each) for each in (False, True)]
    for channels, side, batch in ((16, 64, 8), (64, 32, 8), (64, 56, 8), (128, 28, 8), (64, 112, 8)):
        model = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)).eval()
        name = f"conv2d + norm, {batch} images of {channels} x {side} x {side}"
        found.append(Case(name, "batch_norm", model, torch.rand(batch, channels, side, side), False))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/rules.md and .json")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each case")
    parser.add_argument("--only", default="", help="cases whose name has this pattern in it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bystanders = record.Bystanders()
    found = [measure(case, options.seconds) for case in cases() if re.search(options.only, case.name)]
    others = bystanders.share()
    heads = ["model", "step", f"{WITH}, ms", f"{WITHOUT}, ms", "times", f"{AS_IT_IS}, ms", "times"]
    table = [heads, *map(cells, found)]
    notes = [
        record.machine(options.threads),
        f"float32, medians of calls in turn, PyTorch {torch.__version__}; fronts: 64 sequences of "
        "1,008 letters, 128 filters of 19.",
        f"Values and gradients of all ways agree to {AGREE:g} of the largest.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/rules.py")
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": found}
        record.write("rules", TITLE, table, notes, content)


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """Milliseconds of all ways in turn, and the rules that fired."""
    names = [rule.name for rule in chosen(None)] + list(NAMES[:1])
    ways = {
        WITH: shared.optimize(case.model, case.x),
        WITHOUT: shared.optimize(case.model, case.x, passes=[name for name in names if name != case.rule]),
        AS_IT_IS: case.model,
    }
    fired = [change.rule for change in ways[WITH].report.changes]
    wanted = step(case.model, case)
    for name, way in ways.items():
        for ours, theirs in zip(step(way, case), wanted, strict=True):
            gap = ((ours - theirs).abs().max() / theirs.abs().max()).item()
            if not gap <= AGREE:
                sys.exit(f"rules: {case.name}, {name}: a tensor differs by {gap:.1e} of its largest number")
    times: dict[str, list[float]] = {name: [] for name in ways}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[WITH]) < 5:
        for name, way in ways.items():
            start = perf_counter()
            step(way, case)
            times[name].append(1e3 * (perf_counter() - start))
    return {
        "name": case.name,
        "step": "forward + backward" if case.training else "forward",
        "rule": case.rule if case.rule in fired else "",
        "milliseconds": times,
    }


def step(way: nn.Module, case: Case) -> list[Tensor]:
    """A forward pass, or one and the gradients of the parameters."""
    if not case.training:
        with torch.no_grad():
            return [way(case.x)]
    out = way(case.x)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), list(case.model.parameters()))]


def cells(row: dict[str, Any]) -> list[str]:
    times = row["milliseconds"]
    text = [row["name"] + ("" if row["rule"] else " (refused)"), row["step"]]
    text.append(f"{statistics.median(times[WITH]):.2f}")
    for name in (WITHOUT, AS_IT_IS):
        ratio = statistics.median([b / a for a, b in zip(times[WITH], times[name], strict=True)])
        text += [f"{statistics.median(times[name]):.2f}", f"{ratio:.2f}x"]
    return text


if __name__ == "__main__":
    main()
