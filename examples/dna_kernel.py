"""A quantum kernel on short DNA: is this 8-mer the end of an exon (a donor site)?

    python examples/dna_kernel.py

Each base is rotated onto a wire of its own (A C G T are the corners of a tetrahedron on the Bloch sphere,
so that all pairs of bases are equally far apart), neighbours interact, and the bases are rotated in again.
The kernel of two k-mers is |<psi(a)|psi(b)>|^2 (Havlicek et al. 2019). One call of a layer gives the states
of all k-mers and one matrix product the kernel. The interactions are trained to align it with the labels
(Cristianini et al. 2001), then it goes into ridge regression. No quantum advantage is claimed: the same
regression with two classical kernels of the letters stands beside it.
"""

import math
from pathlib import Path

import pennylane as qml
import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_auroc

import biolayers
import qlayers

SPLICE = Path(__file__).parent / "data" / "splice_junctions.fa"
LETTERS = 8
FIRST = 27  # the junction is between letters 29 and 30 of a record, counted from 0
# polar and azimuthal angle of A C G T
CORNERS = torch.tensor([[0.0, 0.0]] + [[math.acos(-1 / 3), turn * 2 * math.pi / 3] for turn in range(3)])


def circuit(inputs, scale, spins):
    """The state of a k-mer; `spins` are the strengths of the interactions of neighbours."""
    for layer in range(2):
        for place in range(LETTERS):
            qml.RY(scale[layer] * inputs[..., 2 * place], wires=place)
            qml.RZ(inputs[..., 2 * place + 1], wires=place)
        if layer == 0:
            for place in range(LETTERS - 1):
                qml.IsingXX(spins[0, place], wires=[place, place + 1])
                qml.IsingZZ(spins[1, place], wires=[place, place + 1])
    return qml.state()


def kmers() -> tuple[Tensor, Tensor]:
    """The 8-mers at real junctions as tokens (n, 8), each once, and 1 for a donor site, -1 for none: (n).

    Those that are found at donor sites and elsewhere are left out.
    """
    data = biolayers.FastaDataset(SPLICE, label_pattern=r"class=(\w+)")
    tokens = data.tokens[:, FIRST : FIRST + LETTERS].long()
    donor = data.labels == data.classes.index("donor")
    plain = (tokens < data.alphabet.channels).all(-1)
    found, which = tokens[plain].unique(dim=0, return_inverse=True)
    share = which.bincount(donor[plain].float()).float() / which.bincount()
    clear = (share == 0) | (share == 1)
    return found[clear], 2 * share[clear] - 1


def centred(kernel: Tensor) -> Tensor:
    """Without the mean of each row and column, so that a constant counts for nothing."""
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()


def alignment(kernel: Tensor, labels: Tensor) -> Tensor:
    """Cosine between the kernel (n, n) and that of the labels themselves, both centred: -1 to 1."""
    return F.cosine_similarity(centred(kernel).flatten(), centred(torch.outer(labels, labels)).flatten(), 0)


def score(kernel: Tensor, labels: Tensor, known: int, ridge: float = 1e-2) -> float:
    """Area under the ROC curve on the later k-mers, by ridge regression on the first `known` ones."""
    inside = kernel[:known, :known] + ridge * torch.eye(known)
    mean = labels[:known].mean()
    factors = torch.linalg.solve(inside, labels[:known] - mean)
    guess = kernel[known:, :known] @ factors + mean
    return binary_auroc(guess, (labels[known:] > 0).long()).item()


class QuantumKernel(torch.nn.Module):
    """|<psi(a)|psi(b)>|^2 of two sets of k-mers."""

    def __init__(self):
        super().__init__()
        shapes = {"scale": (2,), "spins": (2, LETTERS - 1)}
        start = {"scale": torch.ones(2), "spins": torch.full((2, LETTERS - 1), 0.1)}
        self.states = qlayers.QuantumLayer(circuit, shapes, start, features=2 * LETTERS)

    def forward(self, tokens: Tensor) -> Tensor:
        """The kernel (n, n) of tokens (n, 8)."""
        states = self.states(CORNERS[tokens].flatten(1))  # (n, 256) complex
        return (states @ states.mH).abs().square()


def main(known: int = 400, steps: int = 40, seed: int = 0) -> float:
    """Compare kernels on k-mers that were not trained on.

    Args:
        known: K-mers with labels; all others are for the test.
        steps: Training steps of the kernel.
        seed: Of the choice of k-mers.

    Returns:
        The area under the ROC curve with the trained quantum kernel.
    """
    torch.manual_seed(seed)
    tokens, labels = kmers()
    order = torch.randperm(len(tokens))
    tokens, labels = tokens[order], labels[order]
    print(f"{len(tokens)} different 8-mers, {int((labels > 0).sum())} of them donor sites; {known} are known")

    model = QuantumKernel()
    with torch.no_grad():
        before = score(model(tokens), labels, known)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(1, steps + 1):
        loss = -alignment(model(tokens[:known]), labels[:known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 5) == 0:
            print(f"step {step:3d}  alignment {-loss.item():.4f}")

    letters = F.one_hot(tokens, 4).float().flatten(1)
    same = letters @ letters.mT / LETTERS  # the share of equal letters
    with torch.no_grad():
        after = score(model(tokens), labels, known)
    print("area under the ROC curve on k-mers that were not known (0.5 by chance):")
    print(f"  quantum kernel, untrained  {before:.3f}")
    print(f"  quantum kernel, trained    {after:.3f}")
    print(f"  share of equal letters     {score(same, labels, known):.3f}")
    print(f"  Gaussian of it             {score(torch.exp(4 * (same - 1)), labels, known):.3f}")
    return after


if __name__ == "__main__":
    auto_cli(main)
