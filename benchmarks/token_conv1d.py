"""Convolution of tokens against `one_hot` + `conv1d` of PyTorch, interleaved in one run.

    python benchmarks/token_conv1d.py [--write] [--threads N] [--seconds S]

The results are compared first: no time is shown for paths that disagree.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import record
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from biolayers.ops import token_conv1d

TITLE = "Convolution of tokens"
OURS, FULL, READY = "qbio", "one_hot + conv1d", "conv1d on ready one_hot"
Forward = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """One size: batch, length, output channels, letters, taps."""

    b: int
    l: int
    out: int
    channels: int
    k: int

    def __str__(self) -> str:
        return f"B={self.b} L={self.l} {self.channels} to {self.out} k={self.k}"


CASES = (
    Case(64, 1000, 256, 4, 19),
    Case(64, 200, 64, 4, 12),
    Case(16, 4000, 64, 4, 31),
    Case(32, 500, 64, 20, 9),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/results/token_conv1d.md and .json"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each size, forward and training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bystanders = record.Bystanders()
    found = [row for case in CASES for row in measure(case, options.seconds)]
    others = bystanders.share()
    table = [
        ["size", "step", f"{OURS}, ms", f"{FULL}, ms", "times", f"{READY}, ms", "times"],
        *map(cells, found),
    ]
    notes = [
        record.machine(options.threads),
        f"float32, medians of interleaved calls, PyTorch {torch.__version__}.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/token_conv1d.py")
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": found}
        record.write("token_conv1d", TITLE, table, notes, content)


def measure(case: Case, seconds: float) -> list[dict]:
    """Median milliseconds of each path, forward alone and forward + backward."""
    tokens = torch.randint(0, case.channels, (case.b, case.l), dtype=torch.uint8)
    weight = torch.randn(case.out, case.channels, case.k, requires_grad=True)
    bias = torch.randn(case.out, requires_grad=True)
    grad = torch.randn(case.b, case.out, case.l - case.k + 1)
    ready = one_hot(tokens, case.channels)
    forwards: dict[str, Forward] = {
        OURS: lambda: token_conv1d(tokens, weight, bias),
        FULL: lambda: F.conv1d(one_hot(tokens, case.channels), weight, bias),
        READY: lambda: F.conv1d(ready, weight, bias),
    }

    def train(forward: Forward) -> tuple[Tensor, ...]:
        out = forward()
        return out.detach(), *torch.autograd.grad(out, (weight, bias), grad)

    require_agreement(train(forwards[OURS]), train(forwards[READY]))
    training = {name: (lambda forward=forward: train(forward)) for name, forward in forwards.items()}
    return [
        {"case": asdict(case), "name": str(case), "step": step, "milliseconds": medians(runs, seconds)}
        for step, runs in (("forward", forwards), ("forward + backward", training))
    ]


def one_hot(tokens: Tensor, channels: int) -> Tensor:
    return F.one_hot(tokens.long(), channels).transpose(1, 2).float()


def require_agreement(ours: tuple[Tensor, ...], peer: tuple[Tensor, ...]) -> None:
    """End the run unless all results agree to 1e-5 of the largest value."""
    for what, a, b in zip(("output", "gradient of weight", "gradient of bias"), ours, peer, strict=True):
        gap = ((a - b).abs().max() / b.abs().max()).item()
        if not gap <= 1e-5:
            sys.exit(f"token_conv1d: the {what} differs from conv1d's by {gap:.1e} of its largest value")


def medians(runs: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[OURS]) < 5:
        for name, run in runs.items():
            start = perf_counter()
            run()
            times[name].append(1e3 * (perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def cells(row: dict) -> list[str]:
    ours, full, ready = (row["milliseconds"][name] for name in (OURS, FULL, READY))
    ratios = f"{full:.1f}", f"{full / ours:.1f}x", f"{ready:.1f}", f"{ready / ours:.1f}x"
    return [row["name"], row["step"], f"{ours:.2f}", *ratios]


if __name__ == "__main__":
    main()
