"""Alignment against a plain PyTorch implementation by anti-diagonals, interleaved in one run.

    python benchmarks/align.py [--write] [--threads N] [--seconds S]

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

from biolayers.alignment import align

TITLE = "Smooth local alignment with affine gaps"
OURS, PEER = "qbio", "anti-diagonals in PyTorch"
SMURF = 10.13  # ms for one forward call of 128 pairs of 100 x 100, JAX on a CPU, as published
GAPS = (-3.0, -0.5)
NOTHING = -1e30
LEAST = 3  # calls of each


@dataclass(frozen=True)
class Case:
    """Pairs, and their lengths."""

    b: int
    n: int
    m: int

    def __str__(self) -> str:
        return f"{self.b} x ({self.n:,} x {self.m:,})"


CASES = (Case(128, 100, 100), Case(1, 2000, 2000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/align.md and .json")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each size, forward and training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bystanders = record.Bystanders()
    found = [row for case in CASES for row in measure(case, options.seconds)]
    others = bystanders.share()
    table = [["pairs", "step", f"{OURS}, ms", f"{PEER}, ms", "times"], *map(cells, found)]
    ours = found[0]["milliseconds"][OURS]
    notes = [
        record.machine(options.threads),
        f"float32, temperature 1, medians of interleaved calls, PyTorch {torch.__version__}.",
        f"SMURF's published figure for {CASES[0]} forward, on another machine, is {SMURF} ms in JAX: "
        f"{SMURF / ours:.1f} times ours.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/align.py")
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": found}
        record.write("align", TITLE, table, notes, content)


def measure(case: Case, seconds: float) -> list[dict]:
    """Median milliseconds of both, forward alone and forward + backward."""
    similarity = torch.randn(case.b, case.n, case.m, requires_grad=True)
    gaps = [torch.full((case.b,), gap, requires_grad=True) for gap in GAPS]
    leaves = (similarity, *gaps)
    forwards: dict[str, Callable[[], Tensor]] = {
        OURS: lambda: align(similarity, gap_open=gaps[0], gap_extend=gaps[1], mode="local"),
        PEER: lambda: by_antidiagonals(similarity, *gaps),
    }

    def train(forward: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        scores = forward()
        return scores.detach(), *torch.autograd.grad(scores.sum(), leaves)

    require_agreement(train(forwards[OURS]), train(forwards[PEER]))
    training = {name: (lambda forward=forward: train(forward)) for name, forward in forwards.items()}
    return [
        {"case": asdict(case), "name": str(case), "step": step, "milliseconds": medians(runs, seconds)}
        for step, runs in (("forward", forwards), ("forward + backward", training))
    ]


def by_antidiagonals(similarity: Tensor, gap_open: Tensor, gap_extend: Tensor) -> Tensor:
    """Smooth local scores: all cells of an anti-diagonal at once, in logarithms.

    Cell (i, j) is element i of anti-diagonal i + j, so its neighbours are elements i and i - 1 of the two
    before.
    """
    b, n, m = similarity.shape
    skewed = F.pad(similarity, (0, n), value=NOTHING).flatten(1)[:, : n * (n + m - 1)]
    diagonals = skewed.view(b, n, n + m - 1).permute(2, 0, 1).contiguous().unbind(0)  # (b, n) each
    opening, extension = gap_open[:, None], gap_extend[:, None]
    pair = down = right = ways = before = similarity.new_full((b, n), NOTHING)
    pairs = []
    for scores in diagonals:
        down_from = torch.logaddexp(torch.logaddexp(pair, right) + opening, down + extension)
        right = torch.logaddexp(torch.logaddexp(pair, down) + opening, right + extension)
        down = F.pad(down_from[:, :-1], (1, 0), value=NOTHING)
        pair = scores + F.softplus(F.pad(before[:, :-1], (1, 0), value=NOTHING), threshold=50.0)
        before, ways = ways, torch.logaddexp(torch.logaddexp(pair, down), right)
        pairs.append(pair)
    return F.softplus(torch.logsumexp(torch.cat(pairs, 1), 1), threshold=50.0)


def require_agreement(ours: tuple[Tensor, ...], peer: tuple[Tensor, ...]) -> None:
    """End the run unless all results agree to 1e-3 of the largest value (the peer adds logarithms)."""
    for what, a, b in zip(("score", "similarity", "gap_open", "gap_extend"), ours, peer, strict=True):
        gap = ((a - b).abs().max() / b.abs().max()).item()
        if not gap <= 1e-3:
            sys.exit(f"align: {what} differs from the peer's by {gap:.1e} of its largest value")


def medians(runs: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[OURS]) < LEAST:
        for name, run in runs.items():
            start = perf_counter()
            run()
            times[name].append(1e3 * (perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def cells(row: dict) -> list[str]:
    ours, peer = (row["milliseconds"][name] for name in (OURS, PEER))
    return [row["name"], row["step"], f"{ours:.2f}", f"{peer:.1f}", f"{peer / ours:.0f}x"]


if __name__ == "__main__":
    main()
