"""Alignment as a layer."""

import torch
from torch import Tensor, nn

from biolayers.alignment import align, best_alignments, expected_alignment, pair_scores, substitution_matrix
from biolayers.alphabet import PAD, PROTEIN, Alphabet
from shared.errors import UserError


class Align(nn.Module):
    """Score how well two sequences align, with a gradient to them, to the gaps, and to letter pairs.

    Takes tokens, which are compared by a substitution matrix, or columns of an encoder, compared by their
    inner products. See `biolayers.alignment.align`.

    Args:
        matrix: the name of one of Biopython's substitution matrices, a tensor (channels, channels), or None
            for inner products of columns.
        alphabet: of the tokens, if `matrix` is a name.
        gap_open: what the first letter of a gap is worth, usually negative.
        gap_extend: what each further letter is worth.
        temperature: above 0; 0 for the best alignment alone.
        mode: "local" or "global".
        learn_matrix: whether the matrix is a parameter (else a buffer).
        learn_gaps: whether `gap_open` and `gap_extend` are parameters.
        learn_temperature: whether the temperature is one; it is kept positive as an exponential.

    Raises:
        UserError: an argument is out of range, or there is nothing to learn in `matrix` or `temperature`.

    Example:
        >>> from biolayers import PROTEIN
        >>> from biolayers.layers import Align
        >>> layer = Align("BLOSUM62", gap_open=-11.0, gap_extend=-1.0, temperature=0.0)
        >>> first, second = PROTEIN.tokens(["HEAGAWGHEE"]), PROTEIN.tokens(["PAWHEAE"])
        >>> layer(first, second)
        tensor([17.], grad_fn=<AddBackward0>)
    """

    def __init__(
        self,
        matrix: str | Tensor | None = "BLOSUM62",
        *,
        alphabet: Alphabet = PROTEIN,
        gap_open: float = -11.0,
        gap_extend: float = -1.0,
        temperature: float = 1.0,
        mode: str = "local",
        learn_matrix: bool = False,
        learn_gaps: bool = True,
        learn_temperature: bool = False,
    ):
        super().__init__()
        if temperature < 0 or (learn_temperature and temperature == 0):
            raise UserError(
                f"Align: expected a temperature {'above' if learn_temperature else 'of at least'} 0, "
                f"received {temperature}"
            )
        if learn_matrix and matrix is None:
            raise UserError("Align: expected a matrix to learn, received None; give a name or a tensor")
        self.mode, self.temperature = mode, temperature
        table = substitution_matrix(matrix, alphabet) if isinstance(matrix, str) else matrix
        self._keep("matrix", None if table is None else table.detach().clone(), learn=learn_matrix)
        self._keep("gap_open", torch.tensor(float(gap_open)), learn=learn_gaps)
        self._keep("gap_extend", torch.tensor(float(gap_extend)), learn=learn_gaps)
        if learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(float(temperature)).log())
        else:
            self.register_parameter("log_temperature", None)

    def _keep(self, name: str, value: Tensor | None, *, learn: bool) -> None:
        if learn and value is not None:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def forward(self, first: Tensor, second: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Score pairs of sequences.

        Args:
            first: (b, n) uint8 tokens, or (b, channels, n) columns.
            second: (b, m) or (b, channels, m).
            lengths: (b, 2) integers: how many letters of each count; default for tokens: all before `PAD`;
                for columns: all.

        Returns:
            (b,) scores.
        """
        scale = self.temperature if self.log_temperature is None else self.log_temperature.exp()
        return align(*self._pairs(first, second, lengths), temperature=scale, **self._options())

    def expected(self, first: Tensor, second: Tensor, lengths: Tensor | None = None) -> Tensor:
        """How probable it is that letters are paired, (b, n, m); see `expected_alignment`."""
        scale = self.temperature if self.log_temperature is None else self.log_temperature.exp()
        return expected_alignment(*self._pairs(first, second, lengths), temperature=scale, **self._options())

    def best(self, first: Tensor, second: Tensor, lengths: Tensor | None = None) -> list:
        """The coordinates of the best alignment of each pair; see `best_alignments`."""
        return best_alignments(*self._pairs(first, second, lengths), **self._options())

    def _pairs(self, first: Tensor, second: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        similarity = pair_scores(first, second, self.matrix)
        if lengths is None and not first.is_floating_point():
            lengths = torch.stack([_length(first), _length(second)], 1)
        return similarity, lengths

    def _options(self) -> dict:
        return {"gap_open": self.gap_open, "gap_extend": self.gap_extend, "mode": self.mode}

    def extra_repr(self) -> str:
        kind = "inner products" if self.matrix is None else f"{self.matrix.shape[0]} letters"
        return f"{kind}, mode={self.mode!r}, temperature={self.temperature}"


def _length(tokens: Tensor) -> Tensor:
    """How many tokens stand before the padding at the end, (b,)."""
    place = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return torch.where(tokens != PAD, place, 0).amax(1) if tokens.shape[1] else place.new_zeros(len(tokens))
