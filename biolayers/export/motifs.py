"""Motifs in terms of convolutions, with windows beyond the end or over unknown letters found by one more."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biolayers.ops.motif_scan import NO_SITE, letter_columns, strands_of
from shared.export.lowering import Given


class _Scan(nn.Module):
    """`biolayers.ops.motif_scan` with known motifs."""

    def __init__(self, weight: Tensor, widths: Tensor, letters: Tensor, both_strands: bool) -> None:
        super().__init__()
        stacked = strands_of(weight, widths, both_strands).flatten(0, 1)
        self.register_buffer("stacked", stacked)  # (m * strands, channels, w)
        self.register_buffer("letters", letters)
        inside = torch.arange(weight.shape[2]) < widths.unsqueeze(1)
        self.register_buffer("inside", inside.unsqueeze(1).to(weight.dtype))  # (m, 1, w)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, m, strands, l)."""
        (m, _, k), l = self.inside.shape, tokens.shape[1]
        scores = F.conv1d(F.pad(letter_columns(tokens, self.letters), (0, k)), self.stacked)[:, :, :l]
        stops = (tokens >= self.letters.shape[0]).to(self.inside.dtype).unsqueeze(1)  # (b, 1, l)
        within = F.conv1d(F.pad(stops, (0, k), value=1.0), self.inside)[:, :, :l]  # how many in each window
        return torch.where(within.unsqueeze(2) < 0.5, scores.unflatten(1, (m, -1)), NO_SITE)


class _Best(_Scan):
    """`biolayers.ops.motif_best` with known motifs."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Score, place and strand, (b, m) each."""
        scores = super().forward(tokens)
        strands = scores.shape[2]
        sites = scores.transpose(2, 3).flatten(2)  # (b, m, l * strands)
        best, first = sites.max(2)
        none = best == NO_SITE
        place = torch.where(none, -1, first // strands)
        return best, place, torch.where(none, 0, first % strands)


def lower_scan(tokens: Any, weight: Any, widths: Any, letters: Any, both_strands: bool) -> nn.Module | None:
    """`biolayers::motif_scan`; None where the motifs are not known."""
    return _Scan(weight, widths, letters, both_strands) if _known(tokens, weight, widths, letters) else None


def lower_best(tokens: Any, weight: Any, widths: Any, letters: Any, both_strands: bool) -> nn.Module | None:
    """`biolayers::motif_best`; None where the motifs are not known."""
    fits = _known(tokens, weight, widths, letters) and tokens.shape[1] != 0
    return _Best(weight, widths, letters, both_strands) if fits else None


def _known(tokens: Any, *motifs: Any) -> bool:
    return isinstance(tokens, Given) and all(isinstance(each, Tensor) for each in motifs)
