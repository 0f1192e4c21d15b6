"""Long convolution and selective scan against plain PyTorch, interleaved in one run.

    python benchmarks/long_range.py [--write] [--threads N] [--seconds S]

The peers are what one would write: for the convolution a Fourier transform of twice the length, for the scan
a loop over positions. The results are compared first: no time is shown for paths that disagree.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import record
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from biolayers.ops import long_conv, selective_scan

TITLE = "Long-range layers"
OURS, PEER = "qbio", "plain PyTorch"


class Case(NamedTuple):
    """An op at a size, in two ways, and the tensors that want gradients."""

    name: str
    ours: Callable[..., Tensor]
    peer: Callable[..., Tensor]
    leaves: list[Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/results/long_range.md and .json"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each size, forward and training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bystanders = record.Bystanders()
    found = [row for case in cases() for row in measure(case, options.seconds)]
    others = bystanders.share()
    table = [["size", "step", f"{OURS}, ms", f"{PEER}, ms", "times"], *map(cells, found)]
    notes = [
        record.machine(options.threads),
        f"float32, medians of interleaved calls, PyTorch {torch.__version__}.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/long_range.py")
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": found}
        record.write("long_range", TITLE, table, notes, content)


def cases() -> list[Case]:
    """The sizes: sequences, channels, letters (and states)."""
    rows = []
    for b, c, l in ((4, 128, 1000), (2, 128, 8191)):
        name = f"long_conv B={b} C={c} L={l}, causal"
        rows.append(Case(name, long_conv, by_transform, [torch.randn(b, c, l), torch.randn(c, l) / l]))
    for b, l, d, n in ((8, 200, 64, 16), (2, 1000, 128, 16)):
        x, delta = torch.randn(b, l, d), torch.rand(b, l, d) / 10
        rates = -torch.arange(1.0, n + 1).repeat(d, 1)
        leaves = [x, delta, rates, torch.randn(b, l, n), torch.randn(b, l, n)]
        rows.append(Case(f"selective_scan B={b} L={l} D={d} N={n}", selective_scan, by_loop, leaves))
    return rows


def by_transform(x: Tensor, kernel: Tensor) -> Tensor:
    n = 2 * x.shape[2]
    return torch.fft.irfft(torch.fft.rfft(x, n) * torch.fft.rfft(kernel, n), n)[..., : x.shape[2]]


def by_loop(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    decay = torch.exp(delta.unsqueeze(-1) * a)  # (b, l, d, n)
    taken = (delta * x).unsqueeze(-1) * b.unsqueeze(2)
    state, states = torch.zeros_like(taken[:, 0]), []
    for kept, new in zip(decay.unbind(1), taken.unbind(1), strict=True):
        state = kept * state + new
        states.append(state)
    return torch.einsum("btdn,btn->btd", torch.stack(states, 1), c)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """Median milliseconds of both ways, forward alone and forward + backward."""
    leaves = [leaf.requires_grad_() for leaf in case.leaves]

    def forward(run: Callable[..., Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return [run(*leaves)]

    def train(run: Callable[..., Tensor]) -> list[Tensor]:
        out = run(*leaves)
        return [out.detach(), *torch.autograd.grad(out.square().sum(), leaves)]

    require_agreement(case, train(case.ours), train(case.peer))
    rows = []
    for step, way in (("forward", forward), ("forward + backward", train)):
        times = in_turn({OURS: lambda way=way: way(case.ours), PEER: lambda way=way: way(case.peer)}, seconds)
        ratio = statistics.median(p / o for o, p in zip(times[OURS], times[PEER], strict=True))
        middles = {name: statistics.median(values) for name, values in times.items()}
        rows.append({"name": case.name, "step": step, "milliseconds": middles, "ratio": ratio})
    return rows


def require_agreement(case: Case, ours: list[Tensor], peer: list[Tensor]) -> None:
    """End the run unless all results agree to 1e-4 of the largest value."""
    for a, b in zip(ours, peer, strict=True):
        gap = ((a - b).abs().max() / b.abs().max()).item()
        if not gap <= 1e-4:
            sys.exit(f"long_range: {case.name}: results differ by {gap:.1e} of the largest value")


def in_turn(runs: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[OURS]) < 3:
        for name, run in runs.items():
            start = perf_counter()
            run()
            times[name].append(1e3 * (perf_counter() - start))
    return times


def cells(row: dict[str, Any]) -> list[str]:
    ours, peer = (row["milliseconds"][name] for name in (OURS, PEER))
    return [row["name"], row["step"], f"{ours:.2f}", f"{peer:.1f}", f"{row['ratio']:.1f}x"]


if __name__ == "__main__":
    main()
