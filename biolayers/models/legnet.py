"""LegNet: blocks in the manner of EfficientNetV2 for short regulatory sequences."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from biolayers.layers import TokenConv1d
from biolayers.models.base import ReferenceModel
from biolayers.models.head import Head


class LegNet(ReferenceModel):
    """Inverted residual blocks with squeeze-and-excitation, each followed by a narrowing convolution.

    Follows Penzar et al., "LegNet: a best-in-class deep learning model for short DNA regulatory regions",
    Bioinformatics 39 (2023), in the optimised variant of the paper: depthwise convolutions, inner width four
    times the input, blocks joined by concatenation. The paper adds two constant columns to the four letters
    (whether the construct was read once, and on which strand); `letters=6` and columns as input give that.
    The default 18 classes are the bins of expression in the paper's data.

    Args:
        classes: Outputs.
        letters: Letters of the alphabet; other tokens are columns of zeros.
        widths: Channels after the stem and after each block.
        kernel_size: Taps of all convolutions along the sequence.
        expansion: Inner width of a block over its input width; the excitation narrows its input by as much.
        head: See `ReferenceModel`.

    Raises:
        UserError: An option is out of range.

    Example:
        >>> import torch
        >>> LegNet(widths=(16, 8))(torch.zeros(2, 80, dtype=torch.uint8)).shape
        torch.Size([2, 18])
    """

    name: ClassVar[str] = "legnet"

    def __init__(
        self,
        *,
        classes: int = 18,
        letters: int = 4,
        widths: Sequence[int] = (256, 128, 128, 64, 64, 64, 64),
        kernel_size: int = 7,
        expansion: int = 4,
        head: Head | str | None = None,
    ) -> None:
        super().__init__(
            classes=classes,
            letters=letters,
            widths=list(widths),
            kernel_size=kernel_size,
            expansion=expansion,
            head=head,
        )
        self.stem = nn.Sequential(
            TokenConv1d(letters, widths[0], kernel_size, padding="same", bias=False),
            nn.BatchNorm1d(widths[0]),
            nn.SiLU(),
        )
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            inner = _inverted(before, kernel_size, expansion)
            blocks += [_Beside(inner), *_convolution(2 * before, after, kernel_size)]
        self.blocks = nn.Sequential(*blocks)
        self.head = self._head(widths[-1], classes)

    def features(self, tokens: Tensor) -> Tensor:
        # the paper's last convolution has one tap: on the mean over positions it is the same
        return self.blocks(self.stem(tokens)).mean(2)


def _convolution(before: int, after: int, taps: int, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv1d(before, after, taps, padding="same", groups=groups, bias=False)
    return [conv, nn.BatchNorm1d(after), nn.SiLU()]


def _inverted(width: int, taps: int, expansion: int) -> nn.Sequential:
    """Widen, convolve each channel, weigh the channels, narrow."""
    inner = width * expansion
    return nn.Sequential(
        *_convolution(width, inner, 1),
        *_convolution(inner, inner, taps, groups=inner),
        _Excitation(inner, width // expansion),
        *_convolution(inner, width, 1),
    )


class _Excitation(nn.Module):
    """Weigh each channel by a number between 0 and 1 that the means of all channels decide."""

    def __init__(self, channels: int, narrow: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Linear(channels, narrow), nn.SiLU(), nn.Linear(narrow, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:  # (b, c, l)
        return x * self.weigh(x.mean(2)).unsqueeze(2)


class _Beside(nn.Module):
    """Put what a module makes of a map beside the map: (b, c, l) -> (b, 2c, l)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.module(x)), 1)
