"""DeepBind: motif detectors, one maximum each, a small network."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from biolayers.layers import TokenConv1d
from biolayers.models.base import ReferenceModel
from biolayers.models.head import Head
from shared.errors import UserError


class DeepBind(ReferenceModel):
    """Motif detectors whose strongest responses anywhere in the sequence are weighed by a small network.

    Follows Alipanahi, Delong, Weirauch and Frey, "Predicting the sequence specificities of DNA- and
    RNA-binding proteins by deep learning", Nature Biotechnology 33 (2015), with the sizes of its published
    ChIP-seq models: 16 detectors of 24 bases, 32 hidden units. Beyond the ends there are columns of zeros,
    where the paper has 0.25 for each letter. Sequences of any length are taken.

    Args:
        classes: Outputs, at least 1.
        letters: Letters of the alphabet; other tokens are columns of zeros.
        filters: Motif detectors.
        kernel_size: Width of a detector.
        hidden: Units of the hidden layer; 0 for none.
        pool: "max" (proteins on DNA) or "both", the maximum and the mean (proteins on RNA).
        dropout: Share of the hidden units that training drops.
        head: See `ReferenceModel`.

    Raises:
        UserError: An option is out of range.

    Example:
        >>> import torch
        >>> DeepBind(classes=1)(torch.zeros(2, 101, dtype=torch.uint8)).shape
        torch.Size([2, 1])
    """

    name: ClassVar[str] = "deepbind"

    def __init__(
        self,
        *,
        classes: int = 1,
        letters: int = 4,
        filters: int = 16,
        kernel_size: int = 24,
        hidden: int = 32,
        pool: str = "max",
        dropout: float = 0.5,
        head: Head | str | None = None,
    ) -> None:
        if pool not in ("max", "both"):
            raise UserError(f'deepbind: expected pool "max" or "both", received {pool!r}')
        super().__init__(
            classes=classes,
            letters=letters,
            filters=filters,
            kernel_size=kernel_size,
            hidden=hidden,
            pool=pool,
            dropout=dropout,
            head=head,
        )
        self.pool = pool
        self.conv = TokenConv1d(letters, filters, kernel_size, padding=kernel_size - 1, activation="relu")
        width = filters * (1 if pool == "max" else 2)
        self.hidden = nn.Sequential(
            *((nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)) if hidden else ())
        )
        self.head = self._head(hidden or width, classes)

    def features(self, tokens: Tensor) -> Tensor:
        x = self.conv(tokens)  # (b, filters, l + kernel_size - 1)
        strongest = x.amax(2)
        return self.hidden(
            strongest if self.pool == "max" else torch.stack((strongest, x.mean(2)), 2).flatten(1)
        )
