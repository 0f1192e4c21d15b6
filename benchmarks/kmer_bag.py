"""A classifier that sees a sequence as a bag of k-mers, counted on both strands; it trains in seconds."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LETTERS = 4
PRIME = 0x9E3779B1  # spreads the codes of long k-mers over the rows of the table


class KmerBag(nn.Module):
    """Sum the learned vectors of all k-mers, then decide with a small network.

    In the manner of Joulin et al., "Bag of tricks for efficient text classification" (EACL 2017): a k-mer and
    its reverse complement share a vector, k-mers with more codes than `rows` share rows by hashing, and
    k-mers with another letter than A, C, G, T count nothing. Training leaves k-mers out at random.
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
    ) -> None:
        super().__init__()
        self.ks, self.rows, self.left_out = tuple(ks), rows, left_out
        self.nothing = len(self.ks) * rows
        self.vectors = nn.EmbeddingBag(self.nothing + 1, width, mode="sum", padding_idx=self.nothing)
        nn.init.normal_(self.vectors.weight, std=0.01)
        self.decide = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, tokens: Tensor) -> Tensor:  # (b, l) uint8 -> (b, classes)
        places = self.places(tokens)
        if not self.training:
            return self.decide(self.vectors(places))
        dropped = torch.rand(places.shape, device=places.device) < self.left_out
        kept = self.vectors(places.masked_fill(dropped, self.nothing))
        return self.decide(kept / (1 - self.left_out))

    def places(self, tokens: Tensor) -> Tensor:
        """The rows of all k-mers: (b, number of k-mers)."""
        letters = tokens.long()
        given = other = torch.zeros_like(letters)  # codes of the words that start here, on either strand
        strange = torch.zeros_like(tokens, dtype=torch.bool)
        found = []
        for k in range(1, max(self.ks) + 1):
            last = letters[:, k - 1 :]
            count = last.shape[1]
            given = given[:, :count] * LETTERS + last
            other = other[:, :count] + (LETTERS - 1 - last) * LETTERS ** (k - 1)
            strange = strange[:, :count] | (last >= LETTERS)
            if k in self.ks:
                code = torch.minimum(given, other)
                if LETTERS**k > self.rows:
                    code = (code * PRIME >> 12) % self.rows
                place = code + self.ks.index(k) * self.rows
                found.append(place.masked_fill(strange, self.nothing))
        return torch.cat(found, 1)
