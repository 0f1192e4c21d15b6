"""What attributions are counted from: empty or uniform columns, shuffled sequences, or the user's own."""

import torch
from torch import Tensor

from biolayers.alphabet import Alphabet
from biolayers.encoding import one_hot
from biolayers.shuffling import shuffle
from shared.errors import UserError

KINDS = ("zeros", "uniform", "shuffle")


def baselines(
    kind: str | Tensor,
    tokens: Tensor,
    columns: Tensor,
    *,
    alphabet: Alphabet,
    count: int,
    k: int,
    seed: int | None,
) -> Tensor:
    """The baselines of each sequence: (b, n, letters, l) like `columns` (b, letters, l).

    "zeros" are empty columns and "uniform" equal shares of all letters, one baseline each (columns that are
    empty in the sequence stay empty); "shuffle" are `count` shuffles that keep k-lets.

    Raises:
        UserError: The kind is unknown, or a tensor has another shape.
    """
    if isinstance(kind, Tensor):
        return _given(kind, columns, alphabet)
    if kind not in KINDS:
        raise UserError(f"baselines: expected {', '.join(map(repr, KINDS))} or a tensor, received {kind!r}")
    if kind == "shuffle":
        if count < 1:
            raise UserError(f"baselines: expected count of at least 1, received {count}")
        return one_hot(shuffle(tokens, k, seed=seed, count=count, alphabet=alphabet), alphabet, columns.dtype)
    filled = columns.sum(1, keepdim=True) / alphabet.channels if kind == "uniform" else 0
    return (torch.zeros_like(columns) + filled).unsqueeze(1)


def _given(given: Tensor, columns: Tensor, alphabet: Alphabet) -> Tensor:
    """Tokens (l,), (b, l), (b, n, l), or columns (b, n, letters, l)."""
    b, letters, length = columns.shape
    if given.dtype == torch.uint8:
        tokens = given.expand(b, length) if given.ndim == 1 and len(given) == length else given
        tokens = tokens.unsqueeze(1) if tokens.ndim == 2 else tokens
        given = one_hot(tokens, alphabet, columns.dtype) if tokens.ndim == 3 else tokens
    if given.ndim != 4 or given.shape[1] < 1 or (given.shape[0], *given.shape[2:]) != (b, letters, length):
        raise UserError(
            f"baselines: expected tokens (b, l) or (b, n, l), or columns (b, n, letters, l) for b, letters, "
            f"l = {b}, {letters}, {length}, received {given.dtype} {tuple(given.shape)}"
        )
    return given.to(columns)
