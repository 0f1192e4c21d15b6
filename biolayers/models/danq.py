"""DanQ: a convolution for motifs and a recurrent layer for their grammar."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from biolayers.layers import TokenConv1d
from biolayers.models.base import ReferenceModel, at_least_one, pooled, shortest
from biolayers.models.head import Head


class DanQ(ReferenceModel):
    """One convolution, a bidirectional LSTM over its pooled map, and two dense layers.

    Follows Quang and Xie, "DanQ: a hybrid convolutional and recurrent deep neural network for quantifying the
    function of DNA sequences", Nucleic Acids Research 44 (2016). The gates have one bias, as in the paper:
    PyTorch's second one stays zero and is not trained. The outputs are logits; the paper's sigmoid belongs to
    the loss.

    Args:
        length: Length of the sequences.
        classes: Outputs.
        letters: Letters of the alphabet; other tokens are columns of zeros.
        filters: Of the convolution.
        kernel_size: Its taps.
        pool_size: Positions that one maximum is taken over.
        units: Of the LSTM, in each direction.
        hidden: Units of the dense layer.
        dropout: Shares that training drops after the pooling and after the LSTM.
        head: See `ReferenceModel`.

    Raises:
        UserError: An option is out of range, or the sequences are too short.

    Example:
        >>> import torch
        >>> model = DanQ(length=100, classes=3, filters=8, units=8, hidden=16)
        >>> model(torch.zeros(2, 100, dtype=torch.uint8)).shape
        torch.Size([2, 3])
    """

    name: ClassVar[str] = "danq"

    def __init__(
        self,
        *,
        length: int = 1000,
        classes: int = 919,
        letters: int = 4,
        filters: int = 320,
        kernel_size: int = 26,
        pool_size: int = 13,
        units: int = 320,
        hidden: int = 925,
        dropout: Sequence[float] = (0.2, 0.5),
        head: Head | str | None = None,
    ) -> None:
        super().__init__(
            length=length,
            classes=classes,
            letters=letters,
            filters=filters,
            kernel_size=kernel_size,
            pool_size=pool_size,
            units=units,
            hidden=hidden,
            dropout=list(dropout),
            head=head,
        )
        stages = [(kernel_size, pool_size)]
        steps = at_least_one(self.name, pooled(length, stages), length, shortest(stages))
        self.conv = TokenConv1d(
            letters,
            filters,
            kernel_size,
            activation="relu",
            pool="max",
            pool_size=pool_size,
            channels_last=True,
        )
        self.after_conv, self.after_lstm = (nn.Dropout(share) for share in dropout)
        self.lstm = nn.LSTM(filters, units, batch_first=True, bidirectional=True)
        for name, weight in self.lstm.named_parameters():
            if name.startswith("bias_hh"):
                nn.init.zeros_(weight.requires_grad_(False))
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(steps * 2 * units, hidden), nn.ReLU())
        self.head = self._head(hidden, classes)

    def features(self, tokens: Tensor) -> Tensor:
        x = self.after_conv(self.conv(tokens))  # (b, steps, filters)
        return self.dense(self.after_lstm(self.lstm(x)[0]))
