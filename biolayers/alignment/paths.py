"""The best alignment of each pair as coordinates, in Biopython's convention."""

import numpy as np
from torch import Tensor

from biolayers.alignment.aligning import _arguments
from biolayers.ops.align_path import align_path


def best_alignments(
    similarity: Tensor,
    lengths: Tensor | None = None,
    *,
    gap_open: float | Tensor,
    gap_extend: float | Tensor,
    mode: str = "global",
) -> list[np.ndarray]:
    """Trace the best alignment of each pair of sequences (of equally good ones, one).

    Args:
        similarity: (b, n, m), as for `align`.
        lengths: (b, 2), as for `align`.
        gap_open: As for `align`.
        gap_extend: As for `align`.
        mode: As for `align`.

    Returns:
        For each pair an int64 array (2, k) of coordinates as `Bio.Align.Alignment` takes them: from one
        column to the next both rows advance (letters in pairs) or one of them does (letters facing a gap). Of
        an empty local alignment k is 0.

    Raises:
        UserError: an argument has another shape, dtype or value.

    Example:
        >>> import torch
        >>> from Bio.Align import Alignment
        >>> from biolayers import DNA
        >>> from biolayers.alignment import best_alignments, pair_scores
        >>> first, second = DNA.tokens(["ACGT"]), DNA.tokens(["ACT"])
        >>> matches = pair_scores(first, second, 3 * torch.eye(4) - 1)
        >>> coordinates, = best_alignments(matches, gap_open=-2.0, gap_extend=-1.0)
        >>> coordinates
        array([[0, 2, 3, 4],
               [0, 2, 2, 3]])
        >>> print(Alignment(["ACGT", "ACT"], coordinates).format().strip())
        target            0 ACGT 4
                          0 ||-| 4
        query             0 AC-T 3
    """
    lengths, opening, extension = _arguments(similarity, lengths, gap_open, gap_extend)
    partner, _ = align_path(similarity, lengths, opening, extension, mode)
    ends = lengths.cpu().numpy() if mode == "global" else [None] * len(lengths)
    return [_coordinates(row, end) for row, end in zip(partner.cpu().numpy(), ends, strict=True)]


def _coordinates(partner: np.ndarray, end: np.ndarray | None) -> np.ndarray:
    """The corners of a path with these pairs; from end to end if `end` says where that is."""
    rows = np.flatnonzero(partner >= 0)
    columns = partner[rows]
    if end is None and len(rows) == 0:
        return np.zeros((2, 0), np.int64)
    i, j = (0, 0) if end is not None else (rows[0], columns[0])
    corners = [(i, j)]
    for row, column in zip(rows, columns, strict=True):
        corners += [(row, j), (row, column), (row + 1, column + 1)]
        i, j = row + 1, column + 1
    if end is not None:
        corners += [(end[0], j), tuple(end)]
    return _without_repeats(np.array(corners, np.int64).T)


def _without_repeats(corners: np.ndarray) -> np.ndarray:
    """The corners at which the direction changes."""
    steps = np.diff(corners, axis=1)
    corners = np.delete(corners, 1 + np.flatnonzero(~steps.any(0)), axis=1)
    directions = np.diff(corners, axis=1) > 0
    straight = (directions[:, 1:] == directions[:, :-1]).all(0)
    return np.delete(corners, 1 + np.flatnonzero(straight), axis=1)
