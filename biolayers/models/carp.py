"""CARP: dilated convolutions that label every residue of a protein."""

from typing import ClassVar

from torch import Tensor, nn

from biolayers.layers import TokenConv1d
from biolayers.models.base import ReferenceModel
from biolayers.models.head import Head
from shared.errors import UserError


class CARP(ReferenceModel):
    """A residual tower of dilated convolutions with a prediction for every residue.

    Follows Yang, Fusi and Lu, "Convolutions are competitive with transformers for protein sequence
    pretraining", Cell Systems 15 (2024): the blocks of ByteNet (Kalchbrenner et al., 2016) without causality,
    with the sizes of CARP-600k by default. The paper's alphabet has 30 letters and its output as many; here
    there are 20 letters, and `classes` are yours: secondary structure, binding sites, or the residue itself
    (masked residues are any token from `letters` on, such as X).

    Args:
        classes: Outputs for each residue.
        letters: Letters of the alphabet; other tokens are columns of zeros.
        embedding: Width of the first, linear map of a residue.
        width: Channels between the blocks; inside they are half as many.
        layers: Blocks.
        kernel_size: Taps, odd.
        dilations: Largest dilation, a power of 2: dilations 1, 2, 4 ... up to it, and again.
        dropout: Share of each block's addend that training drops.
        per: "residue" for (b, l, classes), or "sequence" for (b, classes) from the mean over residues that
            have a letter.
        head: See `ReferenceModel`.

    Raises:
        UserError: An option is out of range.

    Example:
        >>> from biolayers import PROTEIN
        >>> model = CARP(classes=3, layers=2)
        >>> model(PROTEIN.tokens(["MKTAYIAKQR"])).shape
        torch.Size([1, 10, 3])
    """

    name: ClassVar[str] = "carp"

    def __init__(
        self,
        *,
        classes: int = 20,
        letters: int = 20,
        embedding: int = 8,
        width: int = 128,
        layers: int = 16,
        kernel_size: int = 5,
        dilations: int = 128,
        dropout: float = 0.0,
        per: str = "residue",
        head: Head | str | None = None,
    ) -> None:
        if per not in ("residue", "sequence"):
            raise UserError(f'carp: expected per "residue" or "sequence", received {per!r}')
        if dilations < 1 or dilations & (dilations - 1):
            raise UserError(f"carp: expected dilations to be a power of 2, received {dilations}")
        super().__init__(
            classes=classes,
            letters=letters,
            embedding=embedding,
            width=width,
            layers=layers,
            kernel_size=kernel_size,
            dilations=dilations,
            dropout=dropout,
            per=per,
            head=head,
        )
        self.embed = nn.Sequential(
            TokenConv1d(letters, embedding, 1, bias=False), nn.Conv1d(embedding, width, 1)
        )
        cycle = dilations.bit_length()
        self.blocks = nn.Sequential(
            *(_Block(width, kernel_size, 2 ** (layer % cycle), dropout) for layer in range(layers))
        )
        self.norm = nn.LayerNorm(width)
        self.head = self._head(width, classes)

    def body(self, tokens: Tensor) -> Tensor:
        """The map under the head: (b, l, width)."""
        return self.norm(self.blocks(self.embed(tokens).transpose(1, 2)))

    def features(self, tokens: Tensor) -> Tensor:
        x = self.body(tokens)
        if tokens.is_floating_point():
            real = tokens.any(1)  # (b, l)
        else:
            real = tokens < self.config["letters"]
        weight = real.unsqueeze(2).to(x.dtype)
        return (x * weight).sum(1) / weight.sum(1).clamp(min=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (b, l, classes), or (b, classes) where they are per sequence."""
        if self.config["per"] == "sequence":
            return self.head(self.features(tokens))
        x = self.body(tokens)
        return self.head(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class _Block(nn.Module):
    """Halve the channels, convolve, double them; normalised before each step, added to the input."""

    def __init__(self, width: int, taps: int, dilation: int, dropout: float) -> None:
        super().__init__()
        half = width // 2
        self.narrow = nn.Sequential(
            nn.LayerNorm(width), nn.GELU(), nn.Linear(width, half), nn.LayerNorm(half), nn.GELU()
        )
        self.conv = nn.Conv1d(half, half, taps, padding="same", dilation=dilation)
        self.widen = nn.Sequential(nn.LayerNorm(half), nn.GELU(), nn.Linear(half, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:  # (b, l, width)
        return x + self.widen(self.conv(self.narrow(x).transpose(1, 2)).transpose(1, 2))
