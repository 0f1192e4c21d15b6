"""Scores of alignments, and what an alignment contains on average."""

import torch
from torch import Tensor

from biolayers.ops.align import align as align_op
from biolayers.ops.align import align_backward
from biolayers.ops.align_path import align_path
from shared.errors import UserError


def align(
    similarity: Tensor,
    lengths: Tensor | None = None,
    *,
    gap_open: float | Tensor,
    gap_extend: float | Tensor,
    temperature: float | Tensor = 1.0,
    mode: str = "global",
) -> Tensor:
    """Score the alignments of each pair of sequences: T log of the sum of exp(worth / T) over all of them.

    At temperature 0 that is the worth of the best one, as Biopython's `PairwiseAligner.score` finds it. Any
    order of derivatives exists (at temperature 0 those of one best alignment). Recursions: Gotoh (1982), of
    Needleman & Wunsch (1970) for "global" and of Smith & Waterman (1981) for "local"; smoothed as by Saigo et
    al. (2004).

    Args:
        similarity: (b, n, m) floating: what it is worth to pair letter i of the first with j of the second.
        lengths: (b, 2) integers: how many letters of each count; default: all.
        gap_open: What the first letter of a gap is worth, usually negative, as Biopython's
            `open_gap_score`; one number, or (b,).
        gap_extend: The same of each further letter, as `extend_gap_score`.
        temperature: T, at least 0; a tensor () above 0 gets a gradient.
        mode: "global": from end to end; "local": any part of each, at least 0, the worth of aligning nothing.

    Returns:
        (b,) scores. Two empty sequences score 0.

    Raises:
        UserError: an argument has another shape, dtype or value.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.alignment import align, pair_scores
        >>> first, second = DNA.tokens(["ACGT"]), DNA.tokens(["ACT"])
        >>> matches = pair_scores(first, second, 3 * torch.eye(4) - 1)  # 2 for a match, -1 for a mismatch
        >>> align(matches, gap_open=-2.0, gap_extend=-1.0, temperature=0.0)
        tensor([4.])
        >>> align(matches, gap_open=-2.0, gap_extend=-1.0, temperature=1.0).item() > 4
        True
    """
    lengths, opening, extension = _arguments(similarity, lengths, gap_open, gap_extend)
    if isinstance(temperature, Tensor):
        _check_scalar(temperature)
        warm = similarity / temperature, lengths, opening / temperature, extension / temperature
        return temperature * align_op(*warm, 1.0, mode)
    if temperature == 0:
        return _best_score(similarity, lengths, opening, extension, mode)
    return align_op(similarity, lengths, opening, extension, float(temperature), mode)


def expected_alignment(
    similarity: Tensor,
    lengths: Tensor | None = None,
    *,
    gap_open: float | Tensor,
    gap_extend: float | Tensor,
    temperature: float | Tensor = 1.0,
    mode: str = "global",
) -> Tensor:
    """How probable it is that letters i and j are paired, if alignments have weights exp(worth / T).

    It is the gradient of `align` with respect to `similarity`, and can be differentiated itself. At
    temperature 0 it is 1 along one best alignment, and constant.

    Args:
        similarity: (b, n, m), as for `align`.
        lengths: (b, 2), as for `align`.
        gap_open: As for `align`.
        gap_extend: As for `align`.
        temperature: As for `align`.
        mode: As for `align`.

    Returns:
        (b, n, m), from 0 to 1; zero beyond the lengths.

    Raises:
        UserError: an argument has another shape, dtype or value.

    Example:
        >>> import torch
        >>> from biolayers.alignment import expected_alignment
        >>> expected = expected_alignment(torch.eye(3)[None], gap_open=-1.0, gap_extend=-0.5)
        >>> expected[0].diagonal() > 0.5
        tensor([True, True, True])
    """
    lengths, opening, extension = _arguments(similarity, lengths, gap_open, gap_extend)
    ones = torch.ones_like(opening)
    if isinstance(temperature, Tensor):
        _check_scalar(temperature)
        warm = similarity / temperature, lengths, opening / temperature, extension / temperature
        return align_backward(*warm, ones, 1.0, mode)[0]
    if temperature == 0:
        partner, _ = align_path(similarity, lengths, opening, extension, mode)
        columns = torch.arange(similarity.shape[2], device=similarity.device)
        return (partner.unsqueeze(2) == columns).to(similarity.dtype)
    return align_backward(similarity, lengths, opening, extension, ones, float(temperature), mode)[0]


def _best_score(similarity: Tensor, lengths: Tensor, opening: Tensor, extension: Tensor, mode: str) -> Tensor:
    """The worth of the best path, summed up along it so that it has the gradient of that path."""
    partner, gaps = align_path(similarity, lengths, opening, extension, mode)
    gapped = (gaps.to(similarity.dtype) * torch.stack([opening, extension], 1)).sum(1)
    if similarity.shape[2] == 0:
        return gapped
    paired = similarity.gather(2, partner.clamp(min=0).unsqueeze(2)).squeeze(2)  # (b, n)
    return torch.where(partner >= 0, paired, torch.zeros_like(paired)).sum(1) + gapped


def _arguments(
    similarity: Tensor, lengths: Tensor | None, gap_open: float | Tensor, gap_extend: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths (b, 2) int64 and gaps (b,), as the ops want them."""
    if similarity.ndim != 3:
        raise UserError(f"align: expected similarity (b, n, m), received {tuple(similarity.shape)}")
    b, n, m = similarity.shape
    if lengths is None:
        lengths = torch.tensor([[n, m]], device=similarity.device).expand(b, 2)
    if lengths.is_floating_point() or tuple(lengths.shape) != (b, 2):
        raise UserError(
            f"align: expected lengths ({b}, 2) of integers, received {tuple(lengths.shape)} of dtype "
            f"{str(lengths.dtype).removeprefix('torch.')}"
        )
    gaps = (_vector("gap_open", gap_open, similarity), _vector("gap_extend", gap_extend, similarity))
    return lengths.long().contiguous(), *gaps


def _vector(name: str, value: float | Tensor, similarity: Tensor) -> Tensor:
    b = similarity.shape[0]
    value = torch.as_tensor(value, dtype=similarity.dtype, device=similarity.device)
    if tuple(value.shape) not in ((), (1,), (b,)):
        raise UserError(f"align: expected {name} as one number or ({b},), received {tuple(value.shape)}")
    return value.expand(b).contiguous()


def _check_scalar(temperature: Tensor) -> None:
    if temperature.numel() != 1 or not temperature.is_floating_point():
        raise UserError(
            f"align: expected one temperature of a floating dtype, received {tuple(temperature.shape)} of "
            f"dtype {str(temperature.dtype).removeprefix('torch.')}"
        )
