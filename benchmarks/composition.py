"""What a sequence is made of: counts of its short words, which tell how surprising its long words are."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

LETTERS = 4


def words(tokens: Tensor, ks: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The words of each length k: k, their codes, and which have a letter beside A, C, G, T, (b, l - k + 1).

    A word and its reverse complement have one code, the smaller of the two.
    """
    letters = tokens.long()
    given = other = torch.zeros_like(letters)  # codes of the words that start here, on either strand
    strange = torch.zeros_like(tokens, dtype=torch.bool)
    for k in range(1, max(ks) + 1):
        last = letters[:, k - 1 :]
        count = last.shape[1]
        given = given[:, :count] * LETTERS + last
        other = other[:, :count] + (LETTERS - 1 - last) * LETTERS ** (k - 1)
        strange = strange[:, :count] | (last >= LETTERS)
        if k in ks:
            yield k, torch.minimum(given, other), strange


class Composition(nn.Module):
    """Features of the counts of all words of lengths `ks`, standardised over the batch.

    Counts are exact: training leaves none out. `edges` are distances from the middle, in letters, at which
    counting starts anew; so the middle and the flanks have counts of their own.
    """

    def __init__(
        self, width: int, *, ks: Sequence[int], edges: Sequence[float] = (), dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.ks = tuple(ks)
        self.register_buffer("edges", torch.tensor(edges, dtype=torch.float))
        count = (len(edges) + 1) * sum(LETTERS**k for k in ks)
        self.standard = nn.BatchNorm1d(count)
        self.mix = nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, tokens: Tensor) -> Tensor:  # (b, l) uint8 -> (b, width)
        counts = [self.counts(k, codes, strange) for k, codes, strange in words(tokens, self.ks)]
        return self.mix(self.standard(torch.cat(counts, 1)))

    def counts(self, k: int, codes: Tensor, strange: Tensor) -> Tensor:
        """How often each word occurs in each region: (b, regions * 4**k)."""
        rows, count = codes.shape
        distance = (torch.arange(count, device=codes.device) - (count - 1) / 2).abs()
        region = torch.bucketize(distance, self.edges)
        places = region * LETTERS**k + codes.masked_fill(strange, 0)
        found = torch.zeros(rows, (len(self.edges) + 1) * LETTERS**k, device=codes.device)
        return found.scatter_add_(1, places, (~strange).float())
