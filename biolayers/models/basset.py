"""Basset: three convolutions and two dense layers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from biolayers.layers import TokenConvBlock
from biolayers.models.base import ReferenceModel, at_least_one, pooled, shortest
from biolayers.models.head import Head


class Basset(ReferenceModel):
    """Three blocks of convolution, normalisation, ReLU and max-pooling, then two dense layers.

    Follows Kelley, Snoek and Rinn, "Basset: learning the regulatory code of the accessible genome with deep
    convolutional neural networks", Genome Research 26 (2016). The outputs are logits; the paper's sigmoid
    belongs to the loss.

    Args:
        length: Length of the sequences.
        classes: Outputs.
        letters: Letters of the alphabet; other tokens are columns of zeros.
        filters: Of each convolution.
        kernel_sizes: Their taps.
        pool_sizes: Positions that each maximum is taken over.
        hidden: Units of the dense layers.
        dropout: Share that training drops after each dense layer.
        head: See `ReferenceModel`.

    Raises:
        UserError: An option is out of range, or the sequences are too short.

    Example:
        >>> import torch
        >>> model = Basset(length=200, classes=3, filters=(8, 8, 8), hidden=(16, 16))
        >>> model(torch.zeros(2, 200, dtype=torch.uint8)).shape
        torch.Size([2, 3])
    """

    name: ClassVar[str] = "basset"

    def __init__(
        self,
        *,
        length: int = 600,
        classes: int = 164,
        letters: int = 4,
        filters: Sequence[int] = (300, 200, 200),
        kernel_sizes: Sequence[int] = (19, 11, 7),
        pool_sizes: Sequence[int] = (3, 4, 4),
        hidden: Sequence[int] = (1000, 1000),
        dropout: float = 0.3,
        head: Head | str | None = None,
    ) -> None:
        super().__init__(
            length=length,
            classes=classes,
            letters=letters,
            filters=list(filters),
            kernel_sizes=list(kernel_sizes),
            pool_sizes=list(pool_sizes),
            hidden=list(hidden),
            dropout=dropout,
            head=head,
        )
        stages = list(zip(kernel_sizes, pool_sizes, strict=True))
        steps = at_least_one(self.name, pooled(length, stages), length, shortest(stages))
        first, *others = zip(filters, stages, strict=True)
        self.first = TokenConvBlock(letters, first[0], first[1][0], padding=0, pool_size=first[1][1])
        widths = [filters[0], *filters[1:]]
        self.convs = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(before, after, taps), nn.BatchNorm1d(after), nn.ReLU(), nn.MaxPool1d(pool)
                )
                for before, (after, (taps, pool)) in zip(widths, others, strict=False)
            )
        )
        self.dense = nn.Sequential(nn.Flatten(), *_dense([steps * filters[-1], *hidden], dropout))
        self.head = self._head(hidden[-1], classes)

    def features(self, tokens: Tensor) -> Tensor:
        return self.dense(self.convs(self.first(tokens)))


def _dense(widths: Sequence[int], dropout: float) -> list[nn.Module]:
    """Linear layers between the widths, each with normalisation, ReLU and dropout."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(dropout)]
    return layers
