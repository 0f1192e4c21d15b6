"""Profile HMM scores: ours, the same recursion in plain PyTorch, and HMMER's filters through pyhmmer.

    python benchmarks/hmm.py [--write] [--threads N] [--seconds S]

The scores are compared first: no time is shown for ways that disagree. Plain PyTorch runs in the small case
alone. HMMER gives no forward score by itself: its time is that of its MSV, Viterbi and forward filters
together, on one thread, without the domains that a search goes on to find.
"""

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import pyhmmer
import record
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import shared
from biolayers import PAD, PROTEIN
from biolayers.layers import ProfileHMM
from biolayers.profiles.profile import ProfileHMM as Profile

TITLE = "Profile HMM scores"
OURS, TORCH, HMMER = "qbio", "plain PyTorch", "pyhmmer's filters"
CASES = ((50, 32, 100), (100, 32, 200), (300, 32, 400))  # nodes, sequences, residues
PLAIN = 500_000  # of nodes by residues: more take plain PyTorch minutes, whose cells then stay empty
Way = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/hmm.md and .json")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="time for each step of a case, three rounds at least"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bystanders = record.Bystanders()
    rows = [row for case in CASES for row in measure(case, options.seconds)]
    others = bystanders.share()
    table = [
        ["size", "step", *(f"{way}, ms" for way in (OURS, TORCH, HMMER)), "over PyTorch", "over pyhmmer"]
    ]
    table += [cells(row) for row in rows]
    notes = [
        record.machine(options.threads),
        f"Medians of interleaved calls, float32, local and multihit. pyhmmer {pyhmmer.__version__} has one "
        "thread and runs its MSV, Viterbi and forward filters.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/hmm.py")
    if options.write:
        record.write("hmm", TITLE, table, notes, {"machine": notes[0], "others": others, "rows": rows})


def measure(case: tuple[int, int, int], seconds: float) -> list[dict]:
    """Median milliseconds of each way: of scores, and of scores with the gradient of all parameters."""
    nodes, count, length = case
    draw = random.Random(0)
    family = "".join(draw.choices(PROTEIN.letters, k=nodes))
    texts = ["".join(draw.choices(PROTEIN.letters, k=length)) for _ in range(count)]
    texts = [t[:20] + mutated(family[: nodes // 2], draw) + t[20:] for t in texts]
    tokens = torch.full((count, max(map(len, texts))), PAD, dtype=torch.uint8)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = PROTEIN.tokens(text)
    hmmer = Hmmer([mutated(family, draw) for _ in range(20)], texts)
    layer = ProfileHMM(hmmer.profile())

    def plain(run: Way) -> object:
        with shared.prefer("reference"):
            return run()

    def score() -> Tensor:
        with torch.no_grad():
            return layer(tokens)

    def train() -> None:
        layer.zero_grad()
        layer(tokens).sum().backward()

    forward: dict[str, Way] = {OURS: score, HMMER: hmmer.filters}
    training: dict[str, Way] = {OURS: train}
    if nodes * tokens.numel() <= PLAIN:
        forward[TORCH], training[TORCH] = lambda: plain(score), lambda: plain(train)
        require_agreement(TORCH, score(), forward[TORCH]())
    require_agreement(HMMER, score(), hmmer.scores())
    name = f"{nodes} nodes, {count} x {length}"
    return [
        {"name": name, "step": step, "milliseconds": medians(ways, seconds)}
        for step, ways in (("forward", forward), ("forward + backward", training))
    ]


class Hmmer:
    """A profile that HMMER makes of aligned sequences, and sequences, for pyhmmer."""

    def __init__(self, family: list[str], texts: list[str]) -> None:
        easel, plan7 = pyhmmer.easel, pyhmmer.plan7
        self.alphabet = easel.Alphabet.amino()
        aligned, named = (
            [easel.TextSequence(name=str(i).encode(), sequence=t) for i, t in enumerate(rows)]
            for rows in (family, texts)
        )
        self.block = easel.DigitalSequenceBlock(self.alphabet, [s.digitize(self.alphabet) for s in named])
        alignment = easel.TextMSA(name=b"family", sequences=aligned).digitize(self.alphabet)
        background = plan7.Background(self.alphabet)
        self.model, _, _ = plan7.Builder(self.alphabet).build_msa(alignment, background)

    def profile(self) -> Profile:
        """The same profile as ours."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "family.hmm"
            with path.open("wb") as file:
                self.model.write(file)
            return Profile.read(path)

    def search(self, last: float) -> object:
        plan7 = pyhmmer.plan7
        options = {"bias_filter": False, "null2": False, "F1": 1.0, "F2": 1.0, "E": 1e9, "domE": 1e9, "Z": 1}
        return plan7.Pipeline(self.alphabet, F3=last, **options).search_hmm(self.model, self.block)

    def filters(self) -> object:
        """All filters, of which the last lets nothing through."""
        return self.search(0.0)

    def scores(self) -> Tensor:
        """The bit scores before any correction."""
        found = {int(hit.name): hit.pre_score for hit in self.search(1.0)}
        return torch.tensor([found[i] for i in range(len(self.block))])


def mutated(text: str, draw: random.Random) -> str:
    """A relative with a fifth of its letters changed."""
    return "".join(draw.choice(PROTEIN.letters) if draw.random() < 0.2 else letter for letter in text)


def require_agreement(name: str, ours: Tensor, other: object) -> None:
    """End the run unless all scores agree to two thousandths of a bit."""
    gap = (ours - torch.as_tensor(other)).abs().max().item()
    if not gap <= 2e-3:
        sys.exit(f"hmm: the scores differ from those of {name} by {gap:.1e} bits")


def medians(ways: dict[str, Way], seconds: float) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[OURS]) < 3:
        for name, run in ways.items():
            start = perf_counter()
            run()
            times[name].append(1e3 * (perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def cells(row: dict) -> list[str]:
    times = row["milliseconds"]
    shown = [f"{times[name]:.1f}" if name in times else "" for name in (OURS, TORCH, HMMER)]
    ratios = [f"{times[name] / times[OURS]:.1f}x" if name in times else "" for name in (TORCH, HMMER)]
    return [row["name"], row["step"], *shown, *ratios]


if __name__ == "__main__":
    main()
