"""Peak memory and time before and after reordering (inference) and recomputation (training).

    python benchmarks/graph_memory.py [--write] [--threads N] [--rounds N]

Outputs and gradients of both ways are compared first: no figure is shown for ways that disagree. Peaks are
those of tensors that live at once, parameters and inputs apart, see `shared.analyse`.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import record
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import shared
from shared.graph.timing import medians

TITLE = "Peak memory of whole models"
AGREE = 1e-5


class Branches(nn.Module):
    """Motif scanners of several widths, all begun before the first is pooled, as users write it."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 5, 7, 9, 11, 15, 19, 25)
        self.scanners = nn.ModuleList([nn.Conv1d(4, 64, width) for width in widths])
        self.head = nn.Linear(64 * len(widths), 2)

    def forward(self, x: Tensor) -> Tensor:  # (b, 4, l) -> (b, 2)
        found = [scanner(x).relu() for scanner in self.scanners]
        return self.head(torch.cat([each.amax(-1) for each in found], -1))


class Block(nn.Module):
    """The feed-forward part of a transformer."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(0.1)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # (b, width) -> (b, width)
        return x + self.down(self.drop(nn.functional.gelu(self.up(self.norm(x)))))


# name -> model, inputs, options of optimize, whether it is trained
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any], bool]] = {
    "8 scanners, 32 x 1,000 bp, inference": (Branches, (32, 4, 1000), {"training": False}, False),
    "4 blocks of 256, 2,048 rows, training": (
        lambda: nn.Sequential(*(Block() for _ in range(4))), (2048, 256), {"recompute": 0.1}, True
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/results/graph_memory.md, .json"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--rounds", type=int, default=7, help="how often each way has its turn")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bystanders = record.Bystanders()
    rows = [measure(name, options.rounds) for name in CASES]
    others = bystanders.share()
    table = [["model", "peak before, MB", "after, MB", "times less", "before, ms", "after, ms"]]
    table += [cells(row) for row in rows]
    notes = [
        record.machine(options.threads),
        f"float32, medians of calls in turn, PyTorch {torch.__version__}.",
        f"Outputs and gradients agree to {AGREE:g} of the largest.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/graph_memory.py")
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": rows}
        record.write("graph_memory", TITLE, table, notes, content)


def measure(name: str, rounds: int) -> dict[str, Any]:
    build, shape, options, training = CASES[name]
    torch.manual_seed(0)
    model, x = build(), torch.rand(*shape)
    better = shared.optimize(model, x, **options)
    require_agreement(model, better, x, training)
    peaks = [
        each.training_peak if training else each.peak for each in (better.report.before, better.report.after)
    ]
    times = medians([model, better], (x,), training=training, rounds=rounds, seconds=25)
    return {"name": name, "bytes": peaks, "milliseconds": times}


def require_agreement(model: nn.Module, better: nn.Module, x: Tensor, training: bool) -> None:
    """End the run unless both ways compute the same."""
    found = []
    for each in (model, better):
        torch.manual_seed(1)
        output = each.train(training)(x)
        slopes = torch.autograd.grad(output.square().mean(), list(model.parameters()))
        found.append([output.detach(), *slopes])
    for ours, theirs in zip(*found, strict=True):
        error = float((ours - theirs).abs().max() / theirs.abs().max())
        if not error <= AGREE:
            sys.exit(f"the ways disagree by {error:.1e} of the largest")


def cells(row: dict[str, Any]) -> list[str]:
    before, after = row["bytes"]
    first, second = row["milliseconds"]
    return [
        row["name"], f"{before / 1e6:.1f}", f"{after / 1e6:.1f}", f"{before / after:.2f}",
        f"{first:.1f}", f"{second:.1f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
