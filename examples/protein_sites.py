"""A label for every residue: find sites in proteins.

    python examples/protein_sites.py

The proteins are random, with the composition of real ones, and two kinds of sites follow rules: sequons
(N, anything but P, S or T; PROSITE PS00001 without its last position) and C2H2 zinc fingers (PROSITE PS00028
with free letters between). So it shows how to set up such a task, and that the model learns rules near and
far; it says nothing about real proteins. `--figure protein_sites.png` draws one.
"""

import random
import re
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch.nn import functional as F

from biolayers import PROTEIN
from biolayers.models import CARP

SHARES = {  # percent of residues in UniProtKB/Swiss-Prot
    **{"A": 8.3, "R": 5.5, "N": 4.1, "D": 5.5, "C": 1.4, "Q": 3.9, "E": 6.7, "G": 7.1, "H": 2.3, "I": 5.9},
    **{"L": 9.7, "K": 5.8, "M": 2.4, "F": 3.9, "P": 4.7, "S": 6.6, "T": 5.4, "W": 1.1, "Y": 2.9, "V": 6.9},
}
CLASSES = ("none", "glycosylation", "zinc")
LENGTH = 120
SEQUON = re.compile("(?=N[^P][ST])")
FINGER = re.compile("(?=C(.{2,4}?)C.{12}H(.{3,5}?)H)")


def protein(rng: random.Random) -> str:
    letters = rng.choices(list(SHARES), list(SHARES.values()), k=LENGTH)
    if rng.random() < 0.5:
        steps = finger(rng.randint(2, 4), rng.randint(3, 5))
        start = rng.randrange(LENGTH - steps[-1])
        for step, letter in zip(steps, "CCHH", strict=True):
            letters[start + step] = letter
    return "".join(letters)


def sites(text: str) -> list[int]:
    """The class of every residue, by the rules."""
    labels = [0] * len(text)
    for match in SEQUON.finditer(text):
        labels[match.start()] = 1
    for match in FINGER.finditer(text):
        for place in finger(len(match[1]), len(match[2])):
            labels[match.start() + place] = 2
    return labels


def finger(first: int, second: int) -> tuple[int, ...]:  # where the residues that hold the zinc stand
    return 0, first + 1, first + 14, first + second + 15


def examples(count: int, seed: int) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Proteins, their tokens (count, LENGTH), and the class of every residue (count, LENGTH)."""
    rng = random.Random(seed)
    texts = [protein(rng) for _ in range(count)]
    return texts, PROTEIN.tokens(texts), torch.tensor([sites(text) for text in texts])


def fit(model: CARP, tokens: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """AdamW with one cycle."""
    steps = len(tokens) // 32
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    for epoch in range(1, epochs + 1):
        losses = []
        for places in torch.randperm(len(tokens))[: steps * 32].split(32):
            logits = model(tokens[places])  # (b, l, classes)
            loss = F.cross_entropy(logits.flatten(0, 1), labels[places].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch:2d}  loss {sum(losses) / len(losses):.4f}")


def judge(found: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """The F1 of each kind of site, over all residues."""
    scores = {}
    for number, name in enumerate(CLASSES[1:], 1):
        right = ((found == number) & (labels == number)).sum()
        scores[name] = float(2 * right / ((found == number).sum() + (labels == number).sum()))
    return scores


def letters_alone(tokens: torch.Tensor) -> torch.Tensor:
    """What can be said without looking at the neighbours: every N, every C and H."""
    n, c, h = PROTEIN.tokens("NCH").tolist()
    return (tokens == n).long() + 2 * ((tokens == c) | (tokens == h)).long()


def draw(text: str, chances: torch.Tensor, labels: torch.Tensor, file: Path) -> None:
    """The chances along a protein; triangles where the rules put a site."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.8), layout="constrained")
    axes = figure.subplots()
    for number, colour in ((1, "tab:orange"), (2, "tab:blue")):
        axes.bar(
            range(len(text)), chances[:, number].tolist(), width=0.9, color=colour, label=CLASSES[number]
        )
        places = (labels == number).nonzero().flatten().tolist()
        axes.plot(places, [1.06] * len(places), "v", color=colour, markersize=5)
    axes.set_xticks(range(len(text)), text, fontsize=5.5)
    axes.set(ylim=(0, 1.12), xlim=(-1, len(text)), ylabel="predicted chance")
    axes.set_title("A protein that training never saw; triangles are the sites by the rules", fontsize=10)
    axes.legend(loc="upper right", frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    figure.savefig(file, dpi=150)


def main(epochs: int = 8, count: int = 1500, seed: int = 0, figure: Path | None = None) -> dict[str, float]:
    """Train on generated proteins, and judge on others.

    Args:
        epochs: Passes over the training proteins.
        count: Training proteins; a fifth as many are held out.
        seed: Of the proteins, the weights and the order.
        figure: Where to draw a held-out protein, such as protein_sites.png.

    Returns:
        The F1 of each kind of site on the held-out proteins.
    """
    torch.set_num_threads(1)  # too small for two
    torch.manual_seed(seed)
    _, tokens, labels = examples(count, 2 * seed)
    texts, held_out, truth = examples(count // 5, 2 * seed + 1)
    model = CARP(classes=len(CLASSES), width=48, layers=6, dilations=8)
    print(f"{int((truth > 0).sum())} sites in {truth.numel():,} held-out residues")
    fit(model, tokens, labels, epochs)
    with torch.no_grad():
        chances = model.eval()(held_out).softmax(2)
    scores, plain = judge(chances.argmax(2), truth), judge(letters_alone(held_out), truth)
    for name, score in scores.items():
        print(f"{name}: F1 {score:.3f} (from each letter alone: {plain[name]:.3f})")
    if figure is not None:
        shown = max(range(len(texts)), key=lambda i: (len(truth[i].unique()), int((truth[i] == 1).sum())))
        draw(texts[shown], chances[shown], truth[shown], figure)
    return scores


if __name__ == "__main__":
    auto_cli(main)
