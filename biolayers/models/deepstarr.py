"""DeepSTARR: four convolutions and two dense layers."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from biolayers.layers import TokenConvBlock
from biolayers.models.base import ReferenceModel, at_least_one
from biolayers.models.head import Head


class DeepSTARR(ReferenceModel):
    """Four blocks of convolution, normalisation, ReLU and max-pooling by 2, then two dense layers.

    Follows de Almeida, Reiter, Pagani and Stark, "DeepSTARR predicts enhancer activity from DNA sequence and
    enables the de novo design of synthetic enhancers", Nature Genetics 54 (2022): the two outputs are the
    developmental and the housekeeping activity.

    Args:
        length: Length of the sequences.
        classes: Outputs.
        letters: Letters of the alphabet; other tokens are columns of zeros.
        filters: Of each convolution.
        kernel_sizes: Their taps.
        hidden: Units of the dense layers.
        dropout: Share that training drops after each dense layer.
        head: See `ReferenceModel`.

    Raises:
        UserError: An option is out of range, or the sequences are too short.

    Example:
        >>> import torch
        >>> DeepSTARR(length=64)(torch.zeros(2, 64, dtype=torch.uint8)).shape
        torch.Size([2, 2])
    """

    name: ClassVar[str] = "deepstarr"

    def __init__(
        self,
        *,
        length: int = 249,
        classes: int = 2,
        letters: int = 4,
        filters: Sequence[int] = (256, 60, 60, 120),
        kernel_sizes: Sequence[int] = (7, 3, 5, 3),
        hidden: Sequence[int] = (256, 256),
        dropout: float = 0.4,
        head: Head | str | None = None,
    ) -> None:
        super().__init__(
            length=length,
            classes=classes,
            letters=letters,
            filters=list(filters),
            kernel_sizes=list(kernel_sizes),
            hidden=list(hidden),
            dropout=dropout,
            head=head,
        )
        least = 2 ** len(filters)
        steps = at_least_one(self.name, length // least, length, least)
        self.first = TokenConvBlock(letters, filters[0], kernel_sizes[0], pool_size=2)
        convs: list[nn.Module] = []
        for before, after, taps in zip(filters, filters[1:], kernel_sizes[1:], strict=False):
            convs += [
                nn.Conv1d(before, after, taps, padding="same"),
                nn.BatchNorm1d(after),
                nn.ReLU(),
                nn.MaxPool1d(2),
            ]
        dense: list[nn.Module] = [nn.Flatten()]
        for before, after in zip([steps * filters[-1], *hidden], hidden, strict=False):
            dense += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(dropout)]
        self.convs, self.dense = nn.Sequential(*convs), nn.Sequential(*dense)
        self.head = self._head(hidden[-1], classes)

    def features(self, tokens: Tensor) -> Tensor:
        return self.dense(self.convs(self.first(tokens)))
