"""A classifier that sees a sequence as a bag of k-mers, counted on both strands; it trains in seconds."""

from collections.abc import Sequence

import torch
from composition import LETTERS, Composition, words
from torch import Tensor, nn

PRIME = 0x9E3779B1  # spreads the codes of long k-mers over the rows of the table


class KmerBag(nn.Module):
    """Sum the learned vectors of all k-mers, then decide with a small network.

    In the manner of Joulin et al., "Bag of tricks for efficient text classification" (EACL 2017): a k-mer and
    its reverse complement share a vector, k-mers with more codes than `rows` share rows by hashing, and
    k-mers with another letter than A, C, G, T count nothing. Training leaves k-mers out at random.

    With `composition` (lengths of words), a second network sees the exact counts of short words, stands
    beside the sum, and moves it if `gated`: so k-mers are weighed against what the sequence is made of.
    """

    def __init__(
        self,
        classes: int,
        *,
        ks: Sequence[int],
        rows: int = 1 << 15,
        width: int = 32,
        hidden: int = 32,
        left_out: float = 0.5,
        dropout: float = 0.5,
        composition: Sequence[int] = (),
        edges: Sequence[float] = (),
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.ks, self.rows, self.left_out = tuple(ks), rows, left_out
        self.nothing = len(self.ks) * rows
        self.vectors = nn.EmbeddingBag(self.nothing + 1, width, mode="sum", padding_idx=self.nothing)
        nn.init.normal_(self.vectors.weight, std=0.01)
        self.composition = Composition(width, ks=composition, edges=edges) if composition else None
        self.move = nn.Linear(width, width) if composition and gated else None
        self.standard = nn.BatchNorm1d(width)
        self.active = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))
        self.decide = nn.Sequential(
            nn.Linear(2 * width if composition else width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, tokens: Tensor) -> Tensor:  # (b, l) uint8 -> (b, classes)
        found = self.standard(self.total(tokens))
        if self.composition is None:
            return self.decide(self.active(found))
        made_of = self.composition(tokens)
        if self.move is not None:
            found = found + self.move(made_of)
        return self.decide(torch.cat((self.active(found), made_of), 1))

    def total(self, tokens: Tensor) -> Tensor:
        """The sum of the vectors of all k-mers, (b, width); in training, of those that are not left out."""
        places = self.places(tokens)
        if not self.training:
            return self.vectors(places)
        dropped = torch.rand(places.shape, device=places.device) < self.left_out
        return self.vectors(places.masked_fill(dropped, self.nothing)) / (1 - self.left_out)

    def places(self, tokens: Tensor) -> Tensor:
        """The rows of all k-mers: (b, number of k-mers)."""
        found = []
        for k, code, strange in words(tokens, self.ks):
            if LETTERS**k > self.rows:
                code = (code * PRIME >> 12) % self.rows
            place = code + self.ks.index(k) * self.rows
            found.append(place.masked_fill(strange, self.nothing))
        return torch.cat(found, 1)
