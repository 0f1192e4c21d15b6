"""A small convolutional classifier that reads tokens and keeps positions apart."""

import math

from torch import Tensor, nn

from biolayers.layers import TokenConv1d
from biolayers.models.head import Head


class SequenceCNN(nn.Module):
    """Two convolutions, a pooled map that still knows positions, and a head of your choice.

    The tokens go straight into the first convolution (`TokenConv1d`): no one-hot tensor is made. Pooling
    keeps `positions` places along the sequence, so signals at a fixed place (a splice site, a start codon)
    stay where they are; longer sequences are pooled more coarsely.

    Args:
        length: Length of the sequences, at least 1.
        classes: Number of classes.
        letters: Letters of the alphabet (4 for DNA); tokens from `letters` on (N, gaps, padding) are zeros.
        channels: Channels of both convolutions.
        kernel_size: Width of the first convolution, odd.
        positions: How many places are kept along the sequence, at most.
        dropout: Share of the first layer's features that training drops; the head's input drops 0.2 more.
        head: Makes the last part of the model from `(features, classes)`; by default `nn.Linear`.

    Example:
        >>> import torch
        >>> model = SequenceCNN(60, 3)
        >>> model(torch.zeros(2, 60, dtype=torch.uint8)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        length: int,
        classes: int,
        *,
        letters: int = 4,
        channels: int = 32,
        kernel_size: int = 7,
        positions: int = 20,
        dropout: float = 0.3,
        head: Head = nn.Linear,
    ) -> None:
        super().__init__()
        window = math.ceil(length / positions)
        self.body = nn.Sequential(
            TokenConv1d(letters, channels, kernel_size, padding=kernel_size // 2),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(channels, channels, 5, padding=2),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.MaxPool1d(window, ceil_mode=True),
            nn.Flatten(),
            nn.Dropout(min(0.9, dropout + 0.2)),
        )
        self.head = head(channels * math.ceil(length / window), classes)

    def forward(self, tokens: Tensor) -> Tensor:  # (b, length) uint8 -> (b, classes)
        return self.head(self.body(tokens))
