"""Layer that scores sequences by known motifs."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from biolayers.motifs.bank import MotifBank, as_bank
from biolayers.motifs.motif import Motif
from biolayers.ops.motif_scan import NO_SITE, fitting, motif_best, motif_scan, strands_of
from shared.errors import UserError

POOLS = (None, "max", "logsumexp")


class MotifScan(nn.Module):
    """Score sequences by motifs: every site, the best one, or a soft sum over sites and strands.

    The weights start as the log-odds of the motifs, in bits, and can be trained. A window with a letter that
    has no score (see `unknown`), or that reaches beyond the end, is no site: its score is -1e30 without
    pooling, and a sequence without any site is pooled to 0, the log-odds of no evidence. Tokens can be
    replaced by float columns (b, 4, l): a column of zeros is then an N.

    Args:
        motifs: A `MotifBank`, motifs, consensus strings, or the path of a JASPAR, MEME or TRANSFAC file.
        trainable: Whether the weights learn.
        pool: "max" for the best site of each motif, "logsumexp" for t * log(sum(exp(score / t))) over all
            sites and strands, None for the scores of all of them.
        temperature: t, above 0.
        both_strands: Whether the reverse strand is scored too.
        unknown: What N and other ambiguous letters do, as in `MotifBank.letters`.
        background: The shares of A, C, G and T, in place of the motifs' own.
        device: Of the weights.
        dtype: Of the weights.

    Raises:
        UserError: An argument has another range, or the motifs cannot be read.

    Example:
        >>> from biolayers import DNA
        >>> layer = MotifScan(["TATAWAW", "GGGCGG"])
        >>> layer(DNA.tokens(["GCTATAAATCG", "CCGCCCAAAAA"])).round()
        tensor([[ 12., -36.],
                [-17.,  12.]])
    """

    def __init__(
        self,
        motifs: Any,
        *,
        trainable: bool = False,
        pool: str | None = "max",
        temperature: float = 1.0,
        both_strands: bool = True,
        unknown: str = "skip",
        background: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if pool not in POOLS:
            raise UserError(f"MotifScan: expected pool 'max', 'logsumexp' or None, received {pool!r}")
        if not temperature > 0:
            raise UserError(f"MotifScan: expected a temperature above 0, received {temperature!r}")
        bank = as_bank(motifs, background)
        dtype = dtype or torch.get_default_dtype()
        self.names, self.background = tuple(bank.names), bank.background
        self.pool, self.temperature, self.both_strands = pool, temperature, both_strands
        self.unknown = unknown
        self.weight = nn.Parameter(bank.weight(dtype).to(device), requires_grad=trainable)  # (m, 4, w)
        self.register_buffer("widths", torch.from_numpy(bank.widths.copy()).to(device))
        self.register_buffer("letters", bank.letters(unknown, dtype).to(device))

    def forward(
        self, sequences: UInt8[Tensor, "b l"] | Float[Tensor, "b 4 l"]
    ) -> Float[Tensor, "b m"] | Float[Tensor, "b m strands l"]:
        """Score tokens (b, l), or columns (b, 4, l), to (b, m), or without pooling to (b, m, strands, l)."""
        if sequences.dtype == torch.uint8 and self.pool == "max":
            best, _, _ = motif_best(sequences, self.weight, self.widths, self.letters, self.both_strands)
            return torch.where(best == NO_SITE, 0, best)
        if sequences.dtype == torch.uint8:
            scores = motif_scan(sequences, self.weight, self.widths, self.letters, self.both_strands)
        else:
            scores = self._of_columns(sequences)
        return scores if self.pool is None else self._pooled(scores.transpose(2, 3).flatten(2))

    def _pooled(self, scores: Tensor) -> Tensor:
        """(b, m, sites) to (b, m)."""
        scores = F.pad(scores, (0, 1), value=NO_SITE)  # so that there is one in the shortest sequence
        best = scores.gather(2, scores.argmax(2, keepdim=True)).squeeze(2)  # the first, as in `motif_best`
        pooled = best
        if self.pool == "logsumexp":
            pooled = self.temperature * torch.logsumexp(scores / self.temperature, 2)
        return torch.where(best == NO_SITE, 0, pooled)

    def _of_columns(self, columns: Tensor) -> Tensor:
        if columns.ndim != 3 or columns.shape[1] != 4 or not columns.is_floating_point():
            raise UserError(
                f"MotifScan: expected tokens (b, l) uint8 or columns (b, 4, l) floating, received "
                f"{tuple(columns.shape)} {columns.dtype}"
            )
        columns = columns.to(self.weight.dtype)
        if self.unknown == "skip":
            tokens = torch.where((columns != 0).any(1), 0, 255)  # (b, l)
        else:
            tokens = columns.new_zeros(columns.shape[0], columns.shape[2], dtype=torch.int64)
            columns = columns + (1 - columns.sum(1, keepdim=True)) * self.letters[4][:, None]
        stacked = strands_of(self.weight, self.widths, self.both_strands).flatten(0, 1)
        scores = F.conv1d(F.pad(columns, (0, self.weight.shape[2])), stacked)[:, :, : columns.shape[2]]
        scores = scores.unflatten(1, (len(self.names), -1))
        return torch.where(fitting(tokens, self.widths, 4), scores, NO_SITE)

    def to_bank(self) -> MotifBank:
        """The motifs that the weights stand for: probabilities in proportion to background * 2^weight."""
        motifs = []
        for name, odds, width in zip(self.names, self.weight.detach(), self.widths.tolist(), strict=True):
            shares = odds[:, :width].double().cpu().exp2() * torch.tensor(self.background).double()[:, None]
            motifs.append(
                Motif.from_probabilities(
                    (shares / shares.sum(0)).numpy(), name=name, background=self.background, pseudocount=0.0
                )
            )
        return MotifBank(tuple(motifs), self.background)

    def extra_repr(self) -> str:
        text = f"{len(self.names)} motifs of up to {self.weight.shape[2]} positions, pool={self.pool!r}"
        if self.pool == "logsumexp":
            text += f", temperature={self.temperature:g}"
        return text + ("" if self.both_strands else ", both_strands=False") + f", unknown={self.unknown!r}"
