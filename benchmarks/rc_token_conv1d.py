"""Both strands of a token convolution against PyTorch on one-hot columns, interleaved in one run.

    python benchmarks/rc_token_conv1d.py [--write] [--threads N] [--seconds S]

Two usual ways to the same result: one `conv1d` with the filters of both strands side by side, and one call
for each strand, flipped back and put together, as wrappers of whole layers do. The results are compared
first: no time is shown for paths that disagree.
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

from biolayers.layers import RCTokenConv1d

TITLE = "Convolution of both strands"
OURS, ONE, TWO = "qbio", "one conv1d", "a conv1d for each strand"


@dataclass(frozen=True)
class Case:
    """One size: batch, length, filters, taps, and the width of windows after ReLU (1: neither)."""

    b: int
    l: int
    filters: int
    k: int
    window: int

    def __str__(self) -> str:
        after = f", ReLU, max-pool({self.window})" if self.window > 1 else ""
        return f"B={self.b} L={self.l} 4 to 2 x {self.filters} k={self.k}{after}"


CASES = (
    Case(64, 1000, 128, 19, 1),
    Case(64, 1008, 128, 19, 10),
    Case(256, 207, 32, 8, 1),
    Case(256, 207, 32, 8, 10),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/results/rc_token_conv1d.md and .json"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each size, forward and training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bystanders = record.Bystanders()
    found = [row for case in CASES for row in measure(case, options.seconds)]
    others = bystanders.share()
    table = [
        ["size", "step", f"{OURS}, ms", f"{ONE}, ms", "times", f"{TWO}, ms", "times"],
        *map(cells, found),
    ]
    notes = [
        record.machine(options.threads),
        f"float32, medians of interleaved calls, PyTorch {torch.__version__}; one-hot columns are built.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/rc_token_conv1d.py")
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": found}
        record.write("rc_token_conv1d", TITLE, table, notes, content)


def measure(case: Case, seconds: float) -> list[dict]:
    """Median milliseconds of each path, forward alone and forward + backward."""
    tokens = torch.randint(0, 4, (case.b, case.l), dtype=torch.uint8)
    pooling = {"activation": "relu", "pool": "max", "pool_size": case.window} if case.window > 1 else {}
    layer = RCTokenConv1d(4, case.filters, case.k, **pooling)
    forwards: dict[str, Callable[[], Tensor]] = {
        OURS: lambda: layer(tokens),
        ONE: lambda: pooled(one_call(tokens, layer), case.window),
        TWO: lambda: pooled(two_calls(tokens, layer), case.window),
    }
    grad = torch.randn_like(forwards[OURS]())

    def train(forward: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        out = forward()
        return out.detach(), *torch.autograd.grad(out, list(layer.parameters()), grad)

    for peer in (ONE, TWO):
        require_agreement(train(forwards[OURS]), train(forwards[peer]), peer)
    training = {name: (lambda forward=forward: train(forward)) for name, forward in forwards.items()}
    return [
        {"case": asdict(case), "name": str(case), "step": step, "milliseconds": medians(runs, seconds)}
        for step, runs in (("forward", forwards), ("forward + backward", training))
    ]


def one_call(tokens: Tensor, layer: RCTokenConv1d) -> Tensor:
    weight = torch.cat((layer.weight, layer.weight.flip(0, 1, 2)))
    return F.conv1d(one_hot(tokens), weight, torch.cat((layer.bias, layer.bias.flip(0))))


def two_calls(tokens: Tensor, layer: RCTokenConv1d) -> Tensor:
    x = one_hot(tokens)
    given, other = (F.conv1d(strand, layer.weight, layer.bias) for strand in (x, x.flip(1, 2)))
    return torch.cat((given, other.flip(1, 2)), 1)


def pooled(y: Tensor, window: int) -> Tensor:
    return F.max_pool1d(F.relu(y), window) if window > 1 else y


def one_hot(tokens: Tensor) -> Tensor:
    return F.one_hot(tokens.long(), 4).transpose(1, 2).float()


def require_agreement(ours: tuple[Tensor, ...], peer: tuple[Tensor, ...], name: str) -> None:
    """End the run unless all results agree to 1e-4 of the largest value."""
    for what, a, b in zip(("output", "gradient of weight", "gradient of bias"), ours, peer, strict=True):
        gap = ((a - b).abs().max() / b.abs().max()).item()
        if not gap <= 1e-4:
            sys.exit(f"rc_token_conv1d: the {what} differs by {gap:.1e} of its largest value from {name}")


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
    ours, one, two = (row["milliseconds"][name] for name in (OURS, ONE, TWO))
    return [
        row["name"], row["step"], f"{ours:.2f}", f"{one:.1f}", f"{one / ours:.1f}x", f"{two:.1f}",
        f"{two / ours:.1f}x",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
