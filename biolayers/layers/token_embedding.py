"""Learned vectors for letters."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biolayers.alphabet import DNA, Alphabet
from shared.errors import UserError

_AMBIGUOUS = ("zero", "spread", "own")
_POSITIONS = (None, "learned", "sinusoidal")


class TokenEmbedding(nn.Module):
    """Look up a learned vector for each token, and add one for its position if asked to.

    `PAD` and tokens outside the alphabet are zeros (before positions are added), whatever the options say.

    Args:
        dim: size of a vector, at least 1.
        alphabet: whose letters the tokens are.
        ambiguous: what letters that are not plain (N, R, gaps, ...) become: "zero", zeros as in
            `token_conv1d`; "spread", the mean of the letters that they stand for (zeros if there are none);
            "own", a learned vector each.
        positions: None, "learned" (`max_length` vectors), or "sinusoidal" (Vaswani et al., 2017).
        max_length: the longest sequence, wanted for learned positions.
        channels_last: whether the result is (b, l, dim) instead of (b, dim, l).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: an option is out of range; in a call: another dtype or shape, or a sequence longer than
            `max_length`.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.layers import TokenEmbedding
        >>> embed = TokenEmbedding(16, ambiguous="spread", positions="sinusoidal", channels_last=True)
        >>> embed(DNA.tokens(["ACGTNR"])).shape
        torch.Size([1, 6, 16])
    """

    def __init__(
        self,
        dim: int,
        *,
        alphabet: Alphabet = DNA,
        ambiguous: str = "zero",
        positions: str | None = None,
        max_length: int | None = None,
        channels_last: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("ambiguous", ambiguous, _AMBIGUOUS),
            ("positions", positions, _POSITIONS),
        ):
            if value not in known:
                raise UserError(
                    f"TokenEmbedding: expected {name} to be one of {', '.join(map(repr, known))}, "
                    f"received {value!r}"
                )
        if dim < 1 or (positions == "learned" and (max_length or 0) < 1):
            raise UserError(
                "TokenEmbedding: expected dim, and max_length with learned positions, of at least 1, "
                f"received {dim} and {max_length}"
            )
        self.dim, self.ambiguous, self.positions, self.max_length = dim, ambiguous, positions, max_length
        self.alphabet, self.channels_last = alphabet, channels_last
        shares = letter_shares(alphabet, ambiguous).to(device, dtype or torch.get_default_dtype())
        self.register_buffer("shares", shares, persistent=False)  # (rows, vectors)
        self.weight = nn.Parameter(torch.empty(shares.shape[1], dim, device=device, dtype=dtype))
        if positions == "learned":
            self.position = nn.Parameter(torch.empty(max_length, dim, device=device, dtype=dtype))
        else:
            self.register_parameter("position", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all vectors from N(0, 1), as `Embedding` does, those of positions from N(0, 0.02)."""
        nn.init.normal_(self.weight)
        if self.position is not None:
            nn.init.normal_(self.position, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (b, l) uint8, or float columns (b, letters, l), to (b, dim, l) or (b, l, dim)."""
        if tokens.is_floating_point():
            y = self._of_columns(tokens)
        elif tokens.dtype == torch.uint8 and tokens.ndim == 2:
            row = tokens.clamp(max=self.shares.shape[0] - 1).int()  # the last row is zeros
            y = F.embedding(row, self.shares @ self.weight)
        else:
            raise UserError(
                "TokenEmbedding: expected tokens (b, l) of dtype uint8 or float columns (b, letters, l), "
                f"received {tuple(tokens.shape)} of dtype {str(tokens.dtype).removeprefix('torch.')}"
            )
        y = self._placed(y)
        return y if self.channels_last else y.transpose(1, 2)

    def _of_columns(self, columns: Tensor) -> Tensor:
        """(b, letters, l) to (b, l, dim); with vectors for all letters, one column for each is taken too."""
        counts = {self.alphabet.channels, self.weight.shape[0]}
        if columns.ndim != 3 or columns.shape[1] not in counts:
            raise UserError(
                f"TokenEmbedding: expected columns (b, {' or '.join(map(str, sorted(counts)))}, l), received "
                f"{tuple(columns.shape)}"
            )
        return columns.transpose(1, 2) @ self.weight[: columns.shape[1]]

    def _placed(self, y: Tensor) -> Tensor:
        length = y.shape[1]
        if self.positions == "sinusoidal":
            return y + sinusoids(length, self.dim, y)
        if self.position is None:
            return y
        if length > self.position.shape[0]:
            raise UserError(
                f"TokenEmbedding: expected at most {self.position.shape[0]} tokens, received {length}; cut "
                "the sequences, or raise max_length"
            )
        return y + self.position[:length]

    def extra_repr(self) -> str:
        text = f"{self.dim}, alphabet={self.alphabet}, ambiguous={self.ambiguous!r}"
        text += f", positions={self.positions!r}" if self.positions else ""
        return text + (", channels_last=True" if self.channels_last else "")


def letter_shares(alphabet: Alphabet, ambiguous: str) -> Tensor:
    """(tokens + 1, vectors) float64: of which learned vectors each token is made; the last row is zeros.

    Example:
        >>> letter_shares(DNA, "spread")[DNA.tokens("R").long()]
        tensor([[0.5000, 0.0000, 0.5000, 0.0000]], dtype=torch.float64)
    """
    if ambiguous == "own":
        return torch.eye(len(alphabet) + 1, len(alphabet), dtype=torch.float64)
    tokens = torch.arange(len(alphabet) + 1, dtype=torch.uint8)  # one more than there are: no letter
    return alphabet.one_hot(tokens, spread=ambiguous == "spread", dtype=torch.float64).T


def sinusoids(length: int, dim: int, like: Tensor) -> Tensor:
    """(length, dim): sines in the even columns and cosines in the odd ones, of wavelengths 2 pi to 20,000 pi.

    Example:
        >>> sinusoids(2, 3, torch.empty(0))
        tensor([[0.0000, 1.0000, 0.0000],
                [0.8415, 0.5403, 0.0022]])
    """
    rate = torch.exp(torch.arange(0, dim, 2, device=like.device) * (-math.log(10_000) / dim))
    angle = torch.arange(length, device=like.device).unsqueeze(-1) * rate  # (length, ceil(dim / 2))
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[:, :dim].to(like.dtype)
