"""What stands in rewritten graphs between a model's tokens and our ops."""

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.errors import UserError

_EMPTY = 255  # a token without a column, whatever the alphabet


def letters(tokens: Tensor, count: int) -> Tensor:
    """Tokens as uint8, all below `count`, as `torch.nn.functional.one_hot` wants them.

    Args:
        tokens: (b, l) of any integer dtype.
        count: how many classes there are, at most 255.

    Raises:
        UserError: a token is negative, or not below `count`.

    Example:
        >>> letters(torch.tensor([[0, 3]]), 4)
        tensor([[0, 3]], dtype=torch.uint8)
    """
    if tokens.numel() and not torch.compiler.is_compiling():
        low, high = tokens.aminmax()
        if low < 0 or high >= count:
            raise UserError(f"one_hot: expected classes from 0 to {count - 1}, received {low} to {high}")
    return tokens.to(torch.uint8)


def known(tokens: Tensor, count: int) -> Tensor:
    """Tokens as uint8; those that are no class from 0 to `count - 1` become a token without a column.

    Args:
        tokens: (b, l) of any integer dtype.
        count: how many classes there are, at most 255.

    Example:
        >>> known(torch.tensor([[0, 3, 4, -1, 256]]), 4)
        tensor([[  0,   3, 255, 255, 255]], dtype=torch.uint8)
    """
    return torch.where((tokens >= 0) & (tokens < count), tokens, _EMPTY).to(torch.uint8)


def turned(tokens: Tensor, count: int, complemented: bool, reversed_: bool) -> Tensor:
    """Letter c as `count - 1 - c`, or the last letter first, or both, which is the other strand of DNA.

    Args:
        tokens: (b, l) uint8; what is not below `count` stays as it is.
        count: how many letters there are.
        complemented: whether letters are exchanged.
        reversed_: whether rows are read from the end.

    Example:
        >>> turned(torch.tensor([[0, 1, 1, 9]], dtype=torch.uint8), 4, True, True)
        tensor([[9, 2, 2, 3]], dtype=torch.uint8)
    """
    if complemented:
        tokens = torch.where(tokens < count, count - 1 - tokens, tokens)
    return tokens.flip(-1) if reversed_ else tokens


def lengthened(tokens: Tensor, before: int, after: int) -> Tensor:
    """Rows with tokens without a column at their ends: what zeros around one-hot columns are.

    Example:
        >>> lengthened(torch.tensor([[2]], dtype=torch.uint8), 0, 1)
        tensor([[  2, 255]], dtype=torch.uint8)
    """
    return F.pad(tokens, (before, after), value=_EMPTY)


def contracted(weight: Tensor, table: Tensor, padding_idx: int | None) -> Tensor:
    """Filters over letters, from filters over the columns that a table has for each letter.

    Args:
        weight: (out, columns, k).
        table: (letters, columns), as `torch.nn.Embedding` holds it.
        padding_idx: the letter whose row gets no gradient, if there is one.

    Returns:
        (out, letters, k), so that its convolution with one-hot letters is that of `weight` with table rows.

    Example:
        >>> weight, table = torch.tensor([[[2.0], [3.0]]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> contracted(weight, table, None).flatten()
        tensor([2., 3., 5.])
    """
    if padding_idx is not None:
        still = torch.arange(len(table), device=table.device) == padding_idx % len(table)
        table = torch.where(still[:, None], table.detach(), table)
    return torch.einsum("ock,lc->olk", weight, table)
