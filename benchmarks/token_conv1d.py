"""Convolution of tokens against `one_hot` + `conv1d` of PyTorch: alone, with ReLU and pooling, in a model.

    python benchmarks/token_conv1d.py [--write] [--threads N] [--seconds S]

Everything runs interleaved in one process. The results are compared first: no time is shown for paths that
disagree. The model is that of DeepSTARR (de Almeida et al., Nature Genetics 2022), in a whole training step.
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
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from biolayers.layers import TokenConvBlock
from biolayers.ops import token_conv1d, token_conv1d_max_pool

TITLE = "Convolution of tokens"
OURS, FULL, READY = "qbio", "one_hot + conv1d", "conv1d on ready one_hot"
CHECKED = 5  # training steps whose losses are compared
Forward = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """One size: batch, length, output channels, letters, taps; ReLU and windows of `pool` positions, or 0."""

    b: int
    l: int
    out: int
    channels: int
    k: int
    pool: int = 0

    def __str__(self) -> str:
        pooled = f", ReLU, max-pool {self.pool}" if self.pool else ""
        return f"B={self.b} L={self.l} {self.channels} to {self.out} k={self.k}{pooled}"


CASES = (
    Case(64, 1000, 256, 4, 19, 10),
    Case(256, 200, 64, 4, 8, 10),
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
    found.append(measure_model(options.seconds))
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
    ready = one_hot(tokens, case.channels)

    def ours() -> Tensor:
        if not case.pool:
            return token_conv1d(tokens, weight, bias)
        pooled, _ = token_conv1d_max_pool(tokens, weight, bias, 1, 0, 1, True, case.pool, case.pool)
        return pooled

    def plain(x: Tensor) -> Tensor:
        y = F.conv1d(x, weight, bias)
        return F.max_pool1d(F.relu(y), case.pool) if case.pool else y

    forwards: dict[str, Forward] = {
        OURS: ours,
        FULL: lambda: plain(one_hot(tokens, case.channels)),
        READY: lambda: plain(ready),
    }
    grad = torch.randn_like(ours())

    def train(forward: Forward) -> tuple[Tensor, ...]:
        out = forward()
        return out.detach(), *torch.autograd.grad(out, (weight, bias), grad)

    require_agreement(train(forwards[OURS]), train(forwards[READY]))
    training = {name: (lambda forward=forward: train(forward)) for name, forward in forwards.items()}
    return [
        {"case": asdict(case), "name": str(case), "step": step, "milliseconds": medians(runs, seconds)}
        for step, runs in (("forward", forwards), ("forward + backward", training))
    ]


def measure_model(seconds: float) -> dict:
    """Median milliseconds of a training step of the model, whose losses must agree."""
    tokens = torch.randint(0, 4, (128, 249), dtype=torch.uint8)
    target = torch.randn(128, 2)
    ours = model(TokenConvBlock(4, 246, 7))
    peer = model(OneHotBlock())
    peer.load_state_dict(ours.state_dict())
    steps = {name: training_step(each, tokens, target) for name, each in ((OURS, ours), (FULL, peer))}
    for count in range(CHECKED):
        a, b = (step() for step in steps.values())
        if not abs(a - b) <= 1e-2 * abs(b):
            sys.exit(f"token_conv1d: the losses of the model differ at step {count + 1}: {a:.6f} and {b:.6f}")
    name = "DeepSTARR, B=128 L=249"
    return {"name": name, "step": "training step", "milliseconds": medians(steps, seconds)}


class OneHotBlock(nn.Module):
    """The first block of the model in plain PyTorch, with the parameter names of `TokenConvBlock`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 246, 7, padding=3), nn.BatchNorm1d(246)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.max_pool1d(F.relu(self.norm(self.conv(one_hot(tokens, 4)))), 2)


def model(first: nn.Module) -> nn.Sequential:
    """The model behind its first block; without dropout, so that losses can be compared."""
    blocks = [
        (nn.Conv1d(i, o, k, padding="same"), nn.BatchNorm1d(o), nn.ReLU(), nn.MaxPool1d(2))
        for i, o, k in ((246, 60, 3), (60, 60, 5), (60, 120, 3))
    ]
    dense = [(nn.Linear(i, 256), nn.BatchNorm1d(256), nn.ReLU()) for i in (1800, 256)]
    later = [layer for block in (*blocks, (nn.Flatten(),), *dense) for layer in block]
    return nn.Sequential(first, *later, nn.Linear(256, 2))


def training_step(model: nn.Module, tokens: Tensor, target: Tensor) -> Callable[[], float]:
    """A step of Adam on one batch; it returns the loss."""
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.mse_loss(model(tokens), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


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
    times = row["milliseconds"]
    found = [row["name"], row["step"], f"{times[OURS]:.2f}"]
    for peer in (FULL, READY):
        found += [f"{times[peer]:.1f}", f"{times[peer] / times[OURS]:.1f}x"] if peer in times else ["", ""]
    return found


if __name__ == "__main__":
    main()
