"""What tokenisers take and give."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from biolayers.alphabet import PAD, Alphabet
from shared.errors import UserError

SPECIAL = ("[PAD]", "[UNK]", "[MASK]")
PAD_ID, UNKNOWN_ID, MASK_ID = range(len(SPECIAL))  # beyond the end; no known word; for masked pre-training


class Encoded(NamedTuple):
    """A batch of words, under the names that Hugging Face's models take: `model(**encoded._asdict())`."""

    input_ids: Tensor  # (b, n) int64, `PAD_ID` after the end of a row
    attention_mask: Tensor  # (b, n) bool, True where there is a word


def padded_tokens(sequences: Any, alphabet: Alphabet) -> Tensor:
    """Sequences as tokens (b, l) uint8 with `PAD` after the end of each.

    Args:
        sequences: text, or a list of texts of any lengths, of Python or Biopython; or tokens (l,) or (b, l)
            uint8.
        alphabet: whose letters they are, with its policy.

    Raises:
        UserError: tokens of another dtype or shape, or a letter that the policy refuses.

    Example:
        >>> from biolayers import DNA
        >>> padded_tokens(["ACG", "T"], DNA)
        tensor([[  0,   1,   2],
                [  3, 255, 255]], dtype=torch.uint8)
    """
    if isinstance(sequences, Tensor):
        if sequences.dtype != torch.uint8 or sequences.ndim not in (1, 2):
            raise UserError(
                "tokenizer: expected tokens (l,) or (b, l) of dtype uint8, received "
                f"{tuple(sequences.shape)} of dtype {str(sequences.dtype).removeprefix('torch.')}"
            )
        return torch.atleast_2d(sequences)
    texts = sequences if isinstance(sequences, (list, tuple)) else [sequences]
    rows = [alphabet.tokens(text, record=f"sequence {i}") for i, text in enumerate(texts, 1)]
    if not rows:
        return torch.empty((0, 0), dtype=torch.uint8)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def lengths_of(tokens: Tensor) -> Tensor:
    """How many tokens each row of (b, l) has before the `PAD` at its end: (b,) int64."""
    if tokens.shape[1] == 0:
        return tokens.new_zeros(len(tokens), dtype=torch.int64)
    return ((tokens != PAD) * torch.arange(1, tokens.shape[1] + 1, device=tokens.device)).amax(1)


def batch_of(rows: Sequence[Sequence[int]]) -> Encoded:
    """Ids of rows of different lengths as one batch."""
    width = max(map(len, rows), default=0)
    ids = torch.full((len(rows), width), PAD_ID, dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return Encoded(ids, ids != PAD_ID)


def checked_ids(ids: Tensor, size: int) -> Tensor:
    """Ids as (b, n) int64.

    Raises:
        UserError: they have another shape, are no integers, or lie outside the vocabulary.
    """
    if ids.ndim not in (1, 2) or ids.is_floating_point() or ids.dtype == torch.bool:
        raise UserError(f"tokenizer: expected ids (n,) or (b, n) of integers, received {tuple(ids.shape)}")
    outside = ids[(ids < 0) | (ids >= size)]
    if len(outside):
        raise UserError(f"tokenizer: expected ids from 0 to {size - 1}, received {int(outside[0])}")
    return torch.atleast_2d(ids).long()
