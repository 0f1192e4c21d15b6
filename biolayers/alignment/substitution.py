"""What pairs of letters are worth: substitution matrices, and the similarity of sequences by them."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shared.errors import UserError

if TYPE_CHECKING:
    from biolayers.alphabet import Alphabet


def substitution_matrix(name: str, alphabet: "Alphabet | None" = None) -> Tensor:
    """Read one of Biopython's substitution matrices, in the order of an alphabet's letters.

    Args:
        name: As `Bio.Align.substitution_matrices.load` knows it, such as "BLOSUM62" (Henikoff & Henikoff
            1992), "PAM250" or, for DNA, "NUC.4.4".
        alphabet: Whose plain letters; default: `biolayers.PROTEIN`.

    Returns:
        (channels, channels) float32.

    Raises:
        UserError: Biopython has no such matrix, or the matrix lacks a letter.

    Example:
        >>> from biolayers.alignment import substitution_matrix
        >>> substitution_matrix("BLOSUM62")[:2, :2]  # A and C
        tensor([[4., 0.],
                [0., 9.]])
    """
    from Bio.Align import substitution_matrices

    from biolayers.alphabet import PROTEIN

    alphabet = PROTEIN if alphabet is None else alphabet
    known = substitution_matrices.load()
    if name not in known:
        raise UserError(f"substitution_matrix: expected one of {', '.join(known)}, received {name!r}")
    table = substitution_matrices.load(name)
    missing = [letter for letter in alphabet.letters if letter not in table.alphabet]
    if missing:
        raise UserError(
            f"substitution_matrix: expected a matrix with the letters {''.join(alphabet.letters)}, received "
            f"{name!r} without {''.join(missing)}; choose another matrix or alphabet"
        )
    return torch.tensor([[float(table[a, b]) for b in alphabet.letters] for a in alphabet.letters])


def pair_scores(first: Tensor, second: Tensor, matrix: Tensor | None = None) -> Tensor:
    """What each pair of letters of two sequences is worth.

    Args:
        first: (b, n) uint8 tokens, or (b, channels, n) floating columns: one-hot columns of tokens give the
            same result, embeddings give inner products.
        second: (b, m) or (b, channels, m), of the same kind.
        matrix: (channels, channels) floating: the worth of letter against letter. A token that is not below
            channels (N, X, gaps, `PAD`) is worth 0 against all. Default for columns: their inner product.

    Returns:
        (b, n, m) of the dtype of `matrix`, or of the columns.

    Raises:
        UserError: an argument has another shape or dtype.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.alignment import pair_scores
        >>> pair_scores(DNA.tokens(["ACN"]), DNA.tokens(["AT"]), torch.eye(4))
        tensor([[[1., 0.],
                 [0., 0.],
                 [0., 0.]]])
    """
    _check(first, second, matrix)
    if first.is_floating_point():
        return (first if matrix is None else matrix.T @ first).transpose(1, 2) @ second
    assert matrix is not None
    channels = matrix.shape[0]
    table = torch.nn.functional.pad(matrix, (0, 1, 0, 1))  # a last row and column of zeros
    rows = torch.nn.functional.embedding(first.long().clamp(max=channels), table)  # (b, n, channels + 1)
    columns = second.long().clamp(max=channels).unsqueeze(1).expand(-1, first.shape[1], -1)
    return rows.gather(2, columns)


def _check(first: Tensor, second: Tensor, matrix: Tensor | None) -> None:
    if matrix is not None and (matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]):
        raise UserError(f"pair_scores: expected matrix (channels, channels), received {tuple(matrix.shape)}")
    for name, given in (("first", first), ("second", second)):
        tokens = given.ndim == 2 and given.dtype == torch.uint8
        if not (tokens or (given.ndim == 3 and given.is_floating_point())):
            raise UserError(
                f"pair_scores: expected {name} as tokens (b, l) of dtype uint8 or columns (b, channels, l) "
                f"of floats, received {tuple(given.shape)} of dtype {str(given.dtype).removeprefix('torch.')}"
            )
    if first.ndim != second.ndim or first.shape[0] != second.shape[0]:
        raise UserError(
            f"pair_scores: expected two batches of the same kind and size, received {tuple(first.shape)} and "
            f"{tuple(second.shape)}"
        )
    if first.ndim == 2 and matrix is None:
        raise UserError("pair_scores: expected a matrix for tokens, received none; see substitution_matrix")
    channels = second.shape[1] if matrix is None else matrix.shape[0]
    if first.ndim == 3 and not first.shape[1] == second.shape[1] == channels:
        raise UserError(
            f"pair_scores: expected columns of {channels} channels, received {first.shape[1]} and "
            f"{second.shape[1]}"
        )
