"""A convolutional classifier that also sees what the sequence is made of; it trains in minutes."""

from collections.abc import Sequence

import torch
from composition import Composition
from torch import Tensor, nn

from biolayers.layers import DilatedResidualTower, TokenConvBlock

EMPTY = 4  # a token without a column: a letter that training hides


class ComposedCNN(nn.Module):
    """Convolve, pool to the largest and the mean of each channel, decide beside the counts of short words.

    Training hides letters from the convolutions at random, as a bag leaves out words; the counts are exact.
    """

    def __init__(
        self,
        classes: int,
        *,
        channels: int = 128,
        kernel_size: int = 11,
        layers: int = 3,
        composition: Sequence[int] = (1, 2, 3),
        hidden: int = 64,
        hides: float = 0.15,
    ) -> None:
        super().__init__()
        self.hides = hides
        self.composition = Composition(hidden, ks=composition)
        self.convolve = nn.Sequential(
            TokenConvBlock(4, channels, kernel_size, pool_size=4, bias=False),
            nn.Dropout(0.1),
            DilatedResidualTower(
                channels,
                layers=layers,
                kernel_size=5,
                first_dilation=1,
                growth=1,
                norm=nn.BatchNorm1d,
                dropout=0.2,
            ),
        )
        self.standard = nn.Sequential(nn.BatchNorm1d(2 * channels), nn.Dropout(0.4))
        self.decide = nn.Sequential(
            nn.Linear(2 * channels + hidden, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, classes)
        )

    def forward(self, tokens: Tensor) -> Tensor:  # (b, l) uint8 -> (b, classes)
        made_of = self.composition(tokens)
        if self.training:
            hidden = torch.rand(tokens.shape, device=tokens.device) < self.hides
            tokens = tokens.masked_fill(hidden, EMPTY)
        x = self.convolve(tokens)
        pooled = self.standard(torch.cat((x.amax(2), x.mean(2)), 1))
        return self.decide(torch.cat((pooled, made_of), 1))
