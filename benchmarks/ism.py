"""In-silico saturation mutagenesis through a Basset-type model: windows against every mutant in full.

    python benchmarks/ism.py [--write] [--threads N] [--rounds N] [--length L]

The predictions are compared first, at both ends and in the middle: no time is shown for ways that disagree.
All of the 3 x L mutants go through windows; of those in full, which take minutes, a share of the positions is
timed and multiplied.
"""

import argparse
import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import record
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from biolayers.interpret import ism

TITLE = "In-silico saturation mutagenesis, Basset-type model"
FAST, FULL = "qbio", "every mutant in full"
SHARE = 8  # positions of which the mutants are computed in full, in each round
AGREE = 1e-5  # of the largest prediction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/ism.md and .json")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way has its turn")
    parser.add_argument("--length", type=int, default=1000, help="letters of the sequence")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bystanders = record.Bystanders()
    model = basset(options.length)
    tokens = torch.randint(0, 4, (1, options.length), dtype=torch.uint8)
    require_agreement(model, tokens)
    row = measure(model, tokens, options.rounds)
    others = bystanders.share()
    table = [["sequence", "mutants", f"{FAST}, s", f"{FULL}, s", "times"], cells(row)]
    notes = [
        record.machine(options.threads),
        f"float32, medians of calls in turn, PyTorch {torch.__version__}; in full, {SHARE} of the "
        f"{options.length:,} positions are timed.",
        f"The predictions of both agree to {AGREE:g} of the largest.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/ism.py")
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": [row]}
        record.write("ism", TITLE, table, notes, content)


def basset(length: int) -> nn.Module:
    """Three convolutions with norms, ReLU and max-pools, then three dense layers, 164 outputs."""
    blocks: list[nn.Module] = []
    for before, after, taps, pool in ((4, 300, 19, 3), (300, 200, 11, 4), (200, 200, 7, 4)):
        blocks += [nn.Conv1d(before, after, taps), nn.BatchNorm1d(after), nn.ReLU(), nn.MaxPool1d(pool)]
        length = (length - taps + 1) // pool
    dense = [nn.Flatten(), nn.Linear(200 * length, 1000), nn.ReLU(), nn.Dropout(0.3)]
    dense += [nn.Linear(1000, 1000), nn.ReLU(), nn.Dropout(0.3), nn.Linear(1000, 164)]
    model = nn.Sequential(*blocks, *dense)
    for module in model:
        if isinstance(module, nn.BatchNorm1d):  # as if it were trained
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def require_agreement(model: nn.Module, tokens: Tensor) -> None:
    """End the run unless both ways predict the same."""
    length = tokens.shape[1]
    positions = [0, 1, 2, length // 2, length // 2 + 1, length - 2, length - 1]
    ours, full = (ism(model, tokens, positions=positions, fast=fast) for fast in (True, False))
    gap = ((ours - full).abs().max() / full.abs().max()).item()
    if not gap <= AGREE:
        sys.exit(f"ism: the predictions differ by {gap:.1e} of the largest")


def measure(model: nn.Module, tokens: Tensor, rounds: int) -> dict[str, Any]:
    """Seconds of both ways for all mutants, in turn."""
    length = tokens.shape[1]
    times: dict[str, list[float]] = {FAST: [], FULL: []}
    for turn in range(rounds):
        start = perf_counter()
        ism(model, tokens)
        times[FAST].append(perf_counter() - start)
        first = (turn + 1) * (length - SHARE) // (rounds + 1)
        start = perf_counter()
        ism(model, tokens, positions=range(first, first + SHARE), fast=False, batch_size=3 * SHARE)
        times[FULL].append((perf_counter() - start) * length / SHARE)
    ratios = [full / fast for fast, full in zip(times[FAST], times[FULL], strict=True)]
    return {"length": length, "seconds": times, "ratio": statistics.median(ratios)}


def cells(row: dict[str, Any]) -> list[str]:
    fast, full = (statistics.median(row["seconds"][name]) for name in (FAST, FULL))
    name = f"{row['length']:,} bp"
    return [name, f"{3 * row['length']:,}", f"{fast:.2f}", f"{full:.1f}", f"{row['ratio']:.1f}x"]


if __name__ == "__main__":
    main()
