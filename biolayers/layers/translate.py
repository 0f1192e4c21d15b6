"""From nucleotides to residues and codons, in any reading frame."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biolayers.alphabet import PAD
from biolayers.layers.genetic_code import STOP, codon_table, codons, letter_meanings, residue_table
from biolayers.ops.translate import DIGITS, translate, words
from shared.errors import UserError

_FRAMES = (1, 2, 3, -1, -2, -3)


class Translate(nn.Module):
    """Translate nucleotides to residues: tokens exactly, float columns as probabilities, differentiably.

    Tokens become tokens of `biolayers.PROTEIN`, ambiguous letters included (`AAR` is K, `RAY` is B, `NNN` is
    X); letters after the last whole codon are left out, and a codon with `PAD` in it is `PAD`. Frames -1 to
    -3 read the reverse complement, each row from its own end.

    Float columns become (20 residues in the order of `biolayers.PROTEIN`, then stop): the chance that three
    independent letters with these probabilities are a codon of each; columns of single letters give single
    residues. They have no `PAD`: the other strand starts at the last column.

    Args:
        code: number or name of NCBI's genetic codes: 1 is the standard one, 2 of vertebrate mitochondria.
        frames: 1, 2, 3, -1, -2 or -3, or several of them.

    Raises:
        UserError: there is no such code or frame; in a call: another dtype or shape.

    Example:
        >>> from biolayers import DNA, PROTEIN
        >>> from biolayers.layers import Translate
        >>> PROTEIN.text(Translate()(DNA.tokens(["ATGGCNRAYTAA"])))
        ['MAB*']
        >>> tokens = Translate(frames=(1, -1))(DNA.tokens(["ATGGCNTT"]))  # (b, frames, n)
        >>> PROTEIN.text(tokens[0])
        ['MA', 'XA']
    """

    def __init__(self, code: int | str = 1, *, frames: int | Sequence[int] = 1) -> None:
        super().__init__()
        self.code, self.frames = code, frames if isinstance(frames, int) else tuple(frames)
        for frame in _each(self.frames):
            _check_frame("Translate", frame)
        if not _each(self.frames):
            raise UserError("Translate: expected at least one frame, received none")
        tables = torch.stack([residue_table(code), residue_table(code, complement=True)])
        self.register_buffer("tables", tables, persistent=False)  # (2, 17, 17, 17)
        channels = F.one_hot(codons(code).flatten().long(), STOP + 1).to(torch.get_default_dtype())
        self.register_buffer("channels", channels, persistent=False)  # (64, 21)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (b, l) uint8 to (b, n) uint8, or columns (b, 4, l) to (b, 21, n); n = whole codons.

        Several frames come as a second axis, (b, frames, ...), with n = l // 3: a frame with fewer codons
        ends in `PAD`, or in columns of zeros.
        """
        if isinstance(self.frames, int):
            return self._read(x, self.frames)
        each = [self._read(x, frame) for frame in self.frames]
        empty = 0 if x.is_floating_point() else PAD
        return torch.stack([F.pad(y, (0, x.shape[-1] // 3 - y.shape[-1]), value=empty) for y in each], 1)

    def _read(self, x: Tensor, frame: int) -> Tensor:
        if x.is_floating_point():
            return self.channels.to(x.dtype).T @ codon_columns(x, frame, "Translate")
        return translate(x, self.tables[int(frame < 0)], abs(frame) - 1, frame < 0)

    def extra_repr(self) -> str:
        return f"{self.code!r}, frames={self.frames}"


class CodonEmbedding(nn.Module):
    """Look up a learned vector for each codon.

    A codon with `PAD` in it, or with a gap, is zeros; letters after the last whole codon are left out.

    Args:
        dim: size of a vector, at least 1.
        frame: 1, 2, 3, or -1, -2, -3 on the reverse complement.
        ambiguous: what a codon with N or another IUPAC letter becomes: "zero", or "spread", the mean of the
            codons that it stands for.
        channels_last: whether the result is (b, n, dim) instead of (b, dim, n).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: an option is out of range; in a call: another dtype or shape.

    Example:
        >>> from biolayers import DNA
        >>> from biolayers.layers import CodonEmbedding
        >>> CodonEmbedding(8)(DNA.tokens(["ATGGCNTAA"])).shape
        torch.Size([1, 8, 3])
    """

    def __init__(
        self,
        dim: int,
        *,
        frame: int = 1,
        ambiguous: str = "zero",
        channels_last: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_frame("CodonEmbedding", frame)
        if dim < 1 or ambiguous not in ("zero", "spread"):
            raise UserError(
                "CodonEmbedding: expected dim of at least 1 and ambiguous 'zero' or 'spread', received "
                f"{dim} and {ambiguous!r}"
            )
        self.dim, self.frame, self.ambiguous, self.channels_last = dim, frame, ambiguous, channels_last
        self.weight = nn.Parameter(torch.empty(64, dim, device=device, dtype=dtype))
        self.register_buffer("table", codon_table(complement=frame < 0).to(device), persistent=False)
        shares = _word_shares(complement=frame < 0) if ambiguous == "spread" else torch.empty(0)
        self.register_buffer("shares", shares.to(device, self.weight.dtype), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all vectors from N(0, 1), as `Embedding` does."""
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (b, l) uint8, or float columns (b, 4, l), to (b, dim, n) or (b, n, dim)."""
        if x.is_floating_point():
            y = codon_columns(x, self.frame, "CodonEmbedding").transpose(1, 2) @ self.weight
        elif self.ambiguous == "zero":
            number = translate(x, self.table, abs(self.frame) - 1, self.frame < 0).clamp(max=64)
            y = F.embedding(number.int(), F.pad(self.weight, (0, 0, 0, 1)))
        else:
            y = self._spread(x)
        return y if self.channels_last else y.transpose(1, 2)

    def _spread(self, tokens: Tensor) -> Tensor:
        translate(tokens[:0], self.table)  # checks shape and dtype
        word, padded = words(tokens, abs(self.frame) - 1, self.frame < 0)
        return F.embedding(word.masked_fill(padded, DIGITS**3 - 1), self.shares @ self.weight)

    def extra_repr(self) -> str:
        return f"{self.dim}, frame={self.frame}, ambiguous={self.ambiguous!r}"


def codon_columns(columns: Tensor, frame: int, name: str) -> Tensor:
    """(b, 4, l) to (b, 64, n): the product of the three letters' columns, for each codon in a frame.

    Raises:
        UserError: the columns are not (b, 4, l).
    """
    if columns.ndim != 3 or columns.shape[1] != 4:
        raise UserError(
            f"{name}: expected tokens (b, l) of dtype uint8 or columns (b, 4, l), received "
            f"{tuple(columns.shape)} of dtype {str(columns.dtype).removeprefix('torch.')}"
        )
    if frame < 0:
        columns = columns.flip(1, 2)  # A pairs with T, and C with G
    start = abs(frame) - 1
    count = max(0, columns.shape[2] - start) // 3
    first, second, third = columns[:, :, start : start + 3 * count].unflatten(2, (count, 3)).unbind(3)
    return torch.einsum("bxn,byn,bzn->bxyzn", first, second, third).flatten(1, 3)


def _word_shares(*, complement: bool) -> Tensor:
    """(17^3, 64): the share of each codon in each word of tokens; zeros for words with a gap."""
    meanings = torch.from_numpy(letter_meanings(complement=complement)).double()  # (17, 4)
    share = meanings / meanings.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("ix,jy,kz->ijkxyz", share, share, share).reshape(DIGITS**3, 64)


def _each(frames: int | tuple[int, ...]) -> tuple[int, ...]:
    return (frames,) if isinstance(frames, int) else frames


def _check_frame(name: str, frame: int) -> None:
    if frame not in _FRAMES:
        raise UserError(f"{name}: expected frames 1, 2, 3, -1, -2 or -3, received {frame!r}")
